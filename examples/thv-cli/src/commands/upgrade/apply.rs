//! `thv upgrade apply`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thv::core::{Env, Json, RunConfig, SecretReference, WorkloadName};
use thv::image::Digest;
use thv::manager::{Manager, RollbackPolicy};
use thv::registry::Registry;
use thv::secrets::SecretString;
use thv::upgrade::{Additions, Applied, Applier, ApplyOptions, CheckResult, Checker, EnvVarInfo, Error};

use super::{configs, report};
use crate::cli::{Format, UpgradeApplyArgs};
use crate::commands::registry::{registry, visible};
use crate::commands::run::ca_certificates;
use crate::commands::{Done, Failure, Given, foreground, manager_given, password, questions};
use crate::output::{error, json, note, print, progress, prompt};

/// The exit code of what failed when the old version was being replaced already.
const AFTER_DESTROY: u8 = 3;

pub(super) async fn run(args: &UpgradeApplyArgs) -> Done {
    let certificates = ca_certificates(args.ca_cert.as_deref()).await?;
    let env = Env::from_vars(std::env::vars_os());
    let manager = manager_given(Given {
        password: password::given(&args.password)?,
        ca_certificates: certificates.clone(),
    })?;
    let registry = registry()?;
    let images = thv::image_gate(&env, certificates)?;
    let applier = Applier::new(registry.clone(), images, Arc::new(manager.clone()));
    let enough = AtomicBool::new(false);
    let upgrade = Upgrade {
        args,
        options: options(args)?,
        manager,
        registry,
        applier: applier.clone(),
        enough: &enough,
    };
    let mut work = std::pin::pin!(upgrade.run());
    let signal = tokio::select! {
        done = &mut work => return done.map(|done| done.code),
        signal = foreground::signal() => signal,
    };
    let interrupted = ExitCode::from(128_u8.saturating_add(signal));
    if !applier.is_under_way() {
        return Ok(interrupted);
    }
    note("an upgrade is under way, and is finished first");
    enough.store(true, Ordering::Relaxed);
    let done = work.await?;
    Ok(if done.left_out { interrupted } else { done.code })
}

/// How it ended.
struct Finished {
    code: ExitCode,
    /// Whether something was not begun, since there had been enough.
    left_out: bool,
}

fn options(args: &UpgradeApplyArgs) -> Result<ApplyOptions, Failure> {
    let mut options = ApplyOptions::default();
    options.additions = Additions {
        secrets: args.secret.clone(),
        ..Additions::default()
    };
    for text in &args.env {
        let (key, value) = text
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| Failure::new("--env has the form KEY=VALUE"))?;
        options.additions.env.insert(key.to_owned(), value.to_owned());
    }
    options.verification = args.image_verification;
    if let Some(time) = args.rollback {
        options.rollback = RollbackPolicy::OnFailure;
        options.ready_within = time;
    }
    Ok(options)
}

/// What became of one workload.
struct Upgraded {
    check: CheckResult,
    /// Whether a newer version was put in its place.
    applied: bool,
    /// The manifest that runs now, where one was put there.
    digest: Option<Digest>,
    error: Option<Problem>,
}

impl Upgraded {
    fn nothing(check: CheckResult) -> Self {
        Self {
            check,
            applied: false,
            digest: None,
            error: None,
        }
    }

    fn failed(check: CheckResult, problem: Problem) -> Self {
        Self {
            error: Some(problem),
            ..Self::nothing(check)
        }
    }
}

/// Why one workload has no newer version now.
struct Problem {
    code: &'static str,
    message: String,
    exit_code: u8,
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self {
            code: error.code(),
            message: error::chain(&error),
            exit_code: if error.destruction_began() {
                AFTER_DESTROY
            } else {
                1
            },
        }
    }
}

struct Upgrade<'a> {
    args: &'a UpgradeApplyArgs,
    options: ApplyOptions,
    manager: Manager,
    registry: Arc<dyn Registry>,
    applier: Applier,
    /// Set when no further workload is to be upgraded.
    enough: &'a AtomicBool,
}

impl Upgrade<'_> {
    async fn run(&self) -> Result<Finished, Failure> {
        let configs = match &self.args.name {
            Some(name) => match self.config(&WorkloadName::new(name.as_str())?).await {
                Ok(config) => vec![config],
                Err(error) => {
                    let code = self.no_workload(&error)?;
                    return Ok(Finished {
                        code,
                        left_out: false,
                    });
                }
            },
            None => self.all_configs().await?,
        };
        let checks = Checker::new(self.registry.clone());
        let checks = progress::during("asking the registry", checks.check_all(&configs)).await;
        let (mut done, mut left_out) = (Vec::new(), false);
        for (config, check) in configs.iter().zip(checks) {
            if self.args.all && !check.is_available() {
                continue;
            }
            if self.enough.load(Ordering::Relaxed) {
                left_out = true;
                note(&format!("{} is not upgraded: interrupted", check.workload_name));
                continue;
            }
            let name = config.workload_name().map_err(thv::manager::Error::from)?;
            done.push(self.one(&name, check).await?);
        }
        if self.args.all && done.is_empty() && self.args.format == Format::Text {
            print("Everything is up to date.\n")?;
        }
        let code = self.finish(&done)?;
        Ok(Finished { code, left_out })
    }

    /// The workload's configuration. An update that was cut off may have left the new one, which is no reason to call it up
    /// to date.
    async fn config(&self, name: &WorkloadName) -> Result<RunConfig, thv::manager::Error> {
        if !self.args.dry_run {
            self.manager.settle(name).await?;
        }
        self.manager.export(name).await
    }

    async fn all_configs(&self) -> Result<Vec<RunConfig>, Failure> {
        if !self.args.dry_run {
            for config in configs(&self.manager).await? {
                let name = config.workload_name().map_err(thv::manager::Error::from)?;
                if let Err(error) = self.manager.settle(&name).await {
                    note(&format!("Warning: {name}: {}", error::report(&error)));
                }
            }
        }
        configs(&self.manager).await
    }

    /// There is nothing that could be upgraded.
    fn no_workload(&self, error: &thv::manager::Error) -> Done {
        if self.args.format == Format::Json {
            let said = json::Object::default()
                .with("applied", false)
                .with("error", error::object(error));
            json::print(&said.into())?;
        }
        note(&format!("Error: {}", visible(&error::report(error))));
        Ok(ExitCode::FAILURE)
    }

    async fn one(&self, name: &WorkloadName, check: CheckResult) -> Result<Upgraded, Failure> {
        let text = self.args.format == Format::Text;
        if !check.is_available() {
            if text {
                print(&format!("{}\n", report::nothing_to_do(&check)))?;
            }
            return Ok(Upgraded::nothing(check));
        }
        if self.args.dry_run {
            if text {
                print(&format!(
                    "Dry run: {name} would be upgraded.\n{}",
                    report::one(&check)
                ))?;
            }
            return Ok(Upgraded::nothing(check));
        }
        if !self.args.yes && !prompt::has_somebody_to_ask() {
            let problem = nobody_to_ask(&check);
            return Ok(Upgraded::failed(check, problem));
        }
        let mut options = self.options.clone();
        if !self.args.yes && !self.is_wanted(&check, &mut options).await? {
            if text {
                print("Upgrade cancelled.\n")?;
            }
            return Ok(Upgraded::nothing(check));
        }
        let work = self.applier.apply(name, options);
        match progress::during(&format!("upgrading {name}"), Box::pin(work)).await {
            Ok(applied) => self.succeeded(name, applied),
            Err(error) => Ok(Upgraded::failed(check, error.into())),
        }
    }

    fn succeeded(&self, name: &WorkloadName, applied: Applied) -> Result<Upgraded, Failure> {
        for warning in &applied.warnings {
            note(&format!("Warning: {}", visible(warning)));
        }
        let done = applied.outcome.is_some();
        if self.args.format == Format::Text {
            print(&if done {
                format!("{name} upgraded to {}\n", visible(&applied.check.candidate_image))
            } else {
                // The registry changed its mind since the report.
                format!("{}\n", report::nothing_to_do(&applied.check))
            })?;
        }
        Ok(Upgraded {
            check: applied.check,
            applied: done,
            digest: applied.digest,
            error: None,
        })
    }

    /// Asks whoever is there: first whether, then for what the newer version needs.
    async fn is_wanted(&self, check: &CheckResult, options: &mut ApplyOptions) -> Result<bool, Failure> {
        note(report::one(check).trim_end());
        let answer = prompt::ask("Apply? [y/N]: ", false).await?;
        if !matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Ok(false);
        }
        let added = check.env_var_drift.as_ref().map_or(&[][..], |drift| &drift.added);
        for info in added {
            if info.required && info.default.is_empty() && !is_given(&info.name, &options.additions) {
                self.ask_for(info, &check.workload_name, &mut options.additions)
                    .await?;
            }
        }
        Ok(true)
    }

    /// What stays empty is missing, and the error says so; as is a secret that cannot be kept.
    async fn ask_for(
        &self,
        info: &EnvVarInfo,
        workload: &str,
        additions: &mut Additions,
    ) -> Result<(), Failure> {
        if info.secret && !self.manager.keeps_secrets() {
            return Ok(());
        }
        let question = questions::named(&info.name, &info.description);
        let answer = prompt::ask(&format!("{question}: "), info.secret).await?;
        if answer.is_empty() {
            return Ok(());
        }
        if info.secret {
            let value = SecretString::from(answer);
            let secret = self.manager.keep_secret_for(workload, &info.name, value).await?;
            additions.secrets.push(format!("{secret},target={}", info.name));
        } else {
            additions.env.insert(info.name.clone(), answer);
        }
        Ok(())
    }

    /// Says what failed, and the exit code: the worst of all.
    fn finish(&self, all: &[Upgraded]) -> Done {
        if self.args.format == Format::Json {
            let objects: Vec<Json> = all.iter().map(object).collect();
            match (&self.args.name, objects.into_iter().next()) {
                (Some(_), Some(one)) => json::print(&one)?,
                _ => json::print(&all.iter().map(object).collect())?,
            }
        }
        let mut code = 0;
        for problem in all.iter().filter_map(|one| one.error.as_ref()) {
            note(&format!("Error: {}", visible(&problem.message)));
            code = code.max(problem.exit_code);
        }
        Ok(ExitCode::from(code))
    }
}

fn nobody_to_ask(check: &CheckResult) -> Problem {
    Problem {
        code: "confirmation_required",
        message: format!(
            "{} would be upgraded to {}, and there is nobody to ask: use --yes",
            check.workload_name, check.candidate_image
        ),
        exit_code: 1,
    }
}

/// Whether the user has given a variable of that name already.
fn is_given(variable: &str, additions: &Additions) -> bool {
    let targets = |text: &String| SecretReference::parse(text).is_ok_and(|it| it.target() == variable);
    additions.env.contains_key(variable) || additions.secrets.iter().any(targets)
}

fn object(done: &Upgraded) -> Json {
    let mut object = json::Object::default()
        .with("applied", done.applied)
        .with("result", report::json(&done.check));
    if let Some(digest) = &done.digest {
        object = object.with("digest", digest.to_string());
    }
    if let Some(problem) = &done.error {
        let said = json::Object::default()
            .with("code", problem.code)
            .with("message", problem.message.as_str());
        object = object.with("error", Json::from(said));
    }
    object.into()
}
