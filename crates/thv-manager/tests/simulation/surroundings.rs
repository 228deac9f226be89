//! What a machine has besides records and engine: a clock, ports, and servers that are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use thv_core::Clock;
use thv_manager::Ports;

/// The time of the async runtime, a nanosecond later at each look: no two writes are made at once.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    began: tokio::time::Instant,
    looks: AtomicU64,
}

impl VirtualClock {
    pub(crate) fn new() -> Self {
        Self {
            began: tokio::time::Instant::now(),
            looks: AtomicU64::new(0),
        }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> ZonedDateTime {
        const SUMMER: i128 = 1_787_000_000_000_000_000;
        let look = i128::from(self.looks.fetch_add(1, Ordering::Relaxed));
        let passed = i128::try_from(self.began.elapsed().as_nanos()).unwrap();
        let now = Timestamp::from_nanosecond(SUMMER + passed + look).unwrap();
        now.to_zoned_datetime(TimeZone::UTC)
    }
}

/// Ports of an address that nobody else has, so that histories side by side do not meet. None is offered twice: as ports
/// are chosen by chance, nobody gets the one of a workload that is down for a moment.
#[derive(Debug, Clone)]
pub(crate) struct OwnPorts(Ipv4Addr, Arc<AtomicU16>);

impl OwnPorts {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let (a, b) = own_block();
        let of_256 = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes()[3];
        Self(Ipv4Addr::new(127, a, b, of_256), Arc::new(AtomicU16::new(11_000)))
    }
}

/// 256 addresses of the loopback network: nobody else's as long as a port of them is held that tells so.
fn own_block() -> (u8, u8) {
    static BLOCK: OnceLock<(TcpListener, u8, u8)> = OnceLock::new();
    let (_, a, b) = BLOCK.get_or_init(|| {
        let [.., first] = std::process::id().to_be_bytes();
        let blocks = (0..=u8::MAX).flat_map(|more| (1..=u8::MAX).map(move |a| (a, first.wrapping_add(more))));
        let mut held = blocks.filter_map(|(a, b)| {
            let told = TcpListener::bind((Ipv4Addr::new(127, a, b, 0), 10_999)).ok()?;
            Some((told, a, b))
        });
        held.next().expect("a part of the loopback network is free")
    });
    (*a, *b)
}

impl Ports for OwnPorts {
    fn never_waits(&self) -> bool {
        true
    }

    fn bind(&self, address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind((self.0, address.port()))
    }

    fn candidates(&self) -> Box<dyn Iterator<Item = u16> + '_> {
        Box::new((0..100).map(|_| self.1.fetch_add(1, Ordering::Relaxed)))
    }

    fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![self.0.into()])
    }
}

/// What the servers saw: how many of a workload run now, and of which there were two at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Servers(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    now: BTreeMap<String, usize>,
    twice: BTreeSet<String>,
}

impl Servers {
    pub(crate) fn begin(&self, workload: String) -> Runs {
        let mut seen = self.0.lock().unwrap();
        let now = seen.now.entry(workload.clone()).or_default();
        *now += 1;
        if *now > 1 {
            seen.twice.insert(workload.clone());
        }
        Runs(self.clone(), workload)
    }

    pub(crate) fn twice(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().twice.clone()
    }
}

/// A server, until it ends or is killed.
pub(crate) struct Runs(Servers, String);

impl Drop for Runs {
    fn drop(&mut self) {
        if let Some(now) = self.0.0.lock().unwrap().now.get_mut(&self.1) {
            *now -= 1;
        }
    }
}
