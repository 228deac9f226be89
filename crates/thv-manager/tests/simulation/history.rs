//! What happens on a machine, from a seed; and less of it.

use std::time::Duration;

use crate::mortal::Fault;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Run,
    Replace,
    Update,
    Start,
    Restart,
    Stop,
    Remove,
    Reconcile,
    /// The program that shares the files stops it, as its status file says.
    ToolHiveStops,
    /// The same program removes it: its container, its status file, its configuration.
    ToolHiveRemoves,
    /// The same program starts it, if it does not run as far as that program knows.
    ToolHiveStarts,
    /// The server ends by itself; a remote one goes away, and is back at the next such step, or in the end.
    ServerEnds,
    /// Somebody deletes the lock that a supervisor holds. It does not know, and others see none.
    LockLost,
}

const VERBS: [Verb; 14] = [
    Verb::Run,
    Verb::Run,
    Verb::Run,
    Verb::Replace,
    Verb::Update,
    Verb::Start,
    Verb::Restart,
    Verb::Stop,
    Verb::Remove,
    Verb::Reconcile,
    Verb::ToolHiveStops,
    Verb::ToolHiveRemoves,
    Verb::ToolHiveStarts,
    Verb::ServerEnds,
];

/// The last one is a remote server's.
pub(crate) const NAMES: [&str; 3] = ["echo", "other", "far"];
pub(crate) const FAR: &str = "http://far.example:1/mcp";

#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) after: Duration,
    pub(crate) verb: Verb,
    pub(crate) name: &'static str,
    /// At which point of its process from here on, and what.
    pub(crate) fault: Option<(usize, Fault)>,
    /// The same of the proxy's process, where it launches one.
    pub(crate) proxy_fault: Option<(usize, Fault)>,
    /// Which read of its supervisor, wherever that lives, takes long.
    pub(crate) slow_read: Option<(usize, Duration)>,
}

/// What one program does; when it is killed, it is begun anew with its next step.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Whether each verb is a command that launches proxies as processes; otherwise it is an application that has them.
    pub(crate) apart: bool,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) seed: u64,
    pub(crate) programs: Vec<Program>,
    /// Whether all of them, and all servers, are killed before the machine is looked at.
    pub(crate) reboot: bool,
}

/// splitmix64: every seed gives numbers that look like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    /// With `far`, the remote server is in it too.
    fn step(&mut self, far: bool) -> Step {
        let afters = [0, 0, 0, 1, 20, 300, 4_000, 20_000];
        Step {
            after: Duration::from_millis(self.of(&afters)),
            verb: self.of(&VERBS),
            name: if far {
                self.of(&[NAMES[0], NAMES[1], NAMES[2], NAMES[2]])
            } else {
                self.of(&[NAMES[0], NAMES[0], NAMES[0], NAMES[1]])
            },
            fault: self.fault(40),
            proxy_fault: self.fault(20),
            slow_read: None,
        }
    }

    fn fault(&mut self, points: u64) -> Option<(usize, Fault)> {
        (self.below(2) == 0).then(|| {
            let point = usize::try_from(self.below(points)).unwrap();
            let delay = Duration::from_millis(self.of(&[5, 500, 40_000]));
            (point, self.of(&[Fault::Crash, Fault::Fail, Fault::Delay(delay)]))
        })
    }
}

impl History {
    pub(crate) fn of(seed: u64) -> Self {
        let mut chance = Chance(seed);
        // An HTTP client is made for each of its lives: that takes its time.
        let far = chance.below(6) == 0 && seed.is_multiple_of(3);
        let programs = (0..3)
            .map(|_| Program {
                apart: chance.below(2) == 0,
                steps: (0..=chance.below(4)).map(|_| chance.step(far)).collect(),
            })
            .collect();
        Self {
            seed,
            programs,
            reboot: chance.below(2) == 0,
        }
    }

    /// One in which a supervisor is late, and lost its lock meanwhile to verbs that go on without it. Whoever is left is
    /// killed before the machine is looked at: it holds a port that nobody can ask it to give back.
    pub(crate) fn without_locks(seed: u64) -> Self {
        let mut chance = Chance(!seed);
        let step = |chance: &mut Chance, afters: &[u64], verb| Step {
            after: Duration::from_millis(chance.of(afters)),
            verb,
            name: NAMES[0],
            fault: None,
            proxy_fault: None,
            slow_read: None,
        };
        let mut late = vec![step(&mut chance, &[0], Verb::Run)];
        let apart = chance.below(3) > 0;
        let point = usize::try_from(chance.below(20)).unwrap();
        let long = Duration::from_secs(40);
        let delay = Some((point, Fault::Delay(long)));
        match (chance.below(3), apart) {
            (0, _) => late.push(step(&mut chance, &[0], Verb::ServerEnds)),
            // A verb that launches has as many reads of its own.
            (1, _) => late[0].slow_read = Some((if apart { point } else { point * 2 }, long)),
            (_, true) => late[0].proxy_fault = delay,
            (_, false) => late[0].fault = delay,
        }
        let afters = [0, 1, 20, 300];
        let mut others = vec![step(&mut chance, &[1, 20, 300, 4_000], Verb::LockLost)];
        let verbs: [&[Verb]; 4] = [
            &[Verb::Replace],
            &[Verb::Remove],
            &[Verb::Remove, Verb::Run],
            &[Verb::Restart, Verb::LockLost, Verb::Replace],
        ];
        for verb in chance.of(&verbs) {
            others.push(step(&mut chance, &afters, *verb));
        }
        let program = |apart, steps| Program { apart, steps };
        Self {
            seed,
            programs: vec![
                program(apart, late),
                program(chance.below(2) == 0, others),
                program(false, vec![chance.step(false)]),
            ],
            reboot: true,
        }
    }

    /// Whether anything is done to `name`.
    pub(crate) fn is_about(&self, name: &str) -> bool {
        let mut steps = self.programs.iter().flat_map(|program| &program.steps);
        steps.any(|step| step.name == name)
    }

    /// Leaves out what it fails without, one thing at a time.
    pub(crate) fn shrunk(
        mut self,
        mut why: String,
        happens: impl Fn(&Self) -> Result<(), String>,
    ) -> (Self, String) {
        while let Some((less, reason)) = self
            .lesser()
            .into_iter()
            .find_map(|less| happens(&less).err().map(|reason| (less, reason)))
        {
            (self, why) = (less, reason);
        }
        (self, why)
    }

    fn lesser(&self) -> Vec<Self> {
        let mut all = Vec::new();
        let mut without = |change: &dyn Fn(&mut Self)| {
            let mut less = self.clone();
            change(&mut less);
            all.push(less);
        };
        for (program, Program { apart, steps }) in self.programs.iter().enumerate() {
            if steps.is_empty() {
                without(&|less| {
                    less.programs.remove(program);
                });
                continue;
            }
            for (at, step) in steps.iter().enumerate() {
                without(&|less| {
                    less.programs[program].steps.remove(at);
                });
                if step.fault.is_some() {
                    without(&|less| less.programs[program].steps[at].fault = None);
                }
                if step.slow_read.is_some() {
                    without(&|less| less.programs[program].steps[at].slow_read = None);
                }
                if step.proxy_fault.is_some() {
                    without(&|less| less.programs[program].steps[at].proxy_fault = None);
                }
            }
            if *apart {
                without(&|less| less.programs[program].apart = false);
            }
        }
        let mut steps = self.programs.iter().flat_map(|program| &program.steps);
        if self.reboot && !steps.any(|step| step.verb == Verb::LockLost) {
            without(&|less| less.reboot = false);
        }
        all
    }
}
