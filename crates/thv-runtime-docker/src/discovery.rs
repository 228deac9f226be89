//! Where an engine may be: a pure decision over environment, directories and what exists.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use crate::DockerConfig;
use crate::address::Address;
use crate::context::{self, Context};
use crate::files;
use crate::tls::Material;

/// What kind of engine a place belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flavour {
    /// Docker, Docker Desktop, Rancher Desktop, OrbStack.
    Docker,
    /// Podman.
    Podman,
    /// Colima.
    Colima,
    /// The place does not tell.
    Unknown,
}

/// Where a candidate is from that nobody named.
const USUAL_PLACES: &str = "the usual places";

/// Docker's variables: which engine, and how it is spoken to.
const DOCKERS: [&str; 6] = [
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
    "DOCKER_TLS",
];

/// Docker's files are far smaller.
const MAX_FILE: u64 = 1 << 20;

/// One address that is worth a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) address: Address,
    pub(crate) flavour: Flavour,
    /// Who said so, for messages.
    pub(crate) from: String,
}

/// A place that was looked at and is not tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) place: String,
    pub(crate) reason: String,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) refused: Vec<Refused>,
}

/// What a look at a place shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    There,
    Absent,
    /// This user may not look: it may be there.
    Hidden,
}

/// What exists. A trait, so that tests need no files.
pub(crate) trait Probe {
    fn look(&self, path: &Path) -> Seen;
    fn entries(&self, folder: &Path) -> Vec<PathBuf>;
    /// A small text file; `None` when there is none.
    fn read(&self, file: &Path) -> Option<Result<String, String>>;
}

/// The file system.
pub(crate) struct Disk;

impl Probe for Disk {
    fn look(&self, path: &Path) -> Seen {
        use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
        match std::fs::metadata(path) {
            Err(e) if matches!(e.kind(), NotFound | NotADirectory) => Seen::Absent,
            Err(e) if e.kind() == PermissionDenied => Seen::Hidden,
            // Whatever else it is, the connection attempt gives the reason.
            _ => Seen::There,
        }
    }

    fn entries(&self, folder: &Path) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(folder) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    fn read(&self, file: &Path) -> Option<Result<String, String>> {
        let text = files::read(file, MAX_FILE)
            .and_then(|content| String::from_utf8(content).map_err(std::io::Error::other));
        match text {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => None,
            text => Some(text.map_err(|cause| cause.to_string())),
        }
    }
}

/// Where a socket may be, whether it is there or not.
pub(crate) fn places(config: &DockerConfig) -> Vec<PathBuf> {
    let asked = Asked(RefCell::default());
    discover(config, &asked);
    let mut places = asked.0.into_inner();
    places.sort();
    places.dedup();
    places
}

/// The file system, with what was looked for.
struct Asked(RefCell<Vec<PathBuf>>);

impl Probe for Asked {
    fn look(&self, path: &Path) -> Seen {
        self.0.borrow_mut().push(path.to_owned());
        Seen::Absent
    }

    fn entries(&self, folder: &Path) -> Vec<PathBuf> {
        Disk.entries(folder)
    }

    fn read(&self, file: &Path) -> Option<Result<String, String>> {
        Disk.read(file)
    }
}

/// Decides which addresses to try, in order. A place that the user named is the only one: another engine would
/// hold other workloads.
pub(crate) fn discover(config: &DockerConfig, probe: &dyn Probe) -> Found {
    let mut found = Found::default();
    if let Some(socket) = &config.socket {
        found.consider(probe, socket.clone(), Flavour::Unknown, "the configured socket");
        return found;
    }
    for (variable, flavour) in [
        ("TOOLHIVE_PODMAN_SOCKET", Flavour::Podman),
        ("TOOLHIVE_DOCKER_SOCKET", Flavour::Docker),
        ("TOOLHIVE_COLIMA_SOCKET", Flavour::Colima),
    ] {
        if config.env.is_not_text(variable) {
            found.refuse_variable(variable);
            return found;
        }
        if let Some(path) = config.env.non_empty(variable) {
            found.consider(probe, PathBuf::from(path), flavour, variable);
            return found;
        }
    }
    // What one of them says cannot be known, and what the others say may mean another engine.
    if let Some(variable) = DOCKERS
        .into_iter()
        .find(|variable| config.env.is_not_text(variable))
    {
        found.refuse_variable(variable);
        return found;
    }
    if let Some(host) = config.env.non_empty("DOCKER_HOST") {
        found.consider_host(probe, host, tls_of_environment(config), "DOCKER_HOST".to_owned());
        return found;
    }
    match context::active(config, probe) {
        Context::None => {}
        Context::Host { name, host, tls } => {
            found.consider_host(probe, &host, tls, format!("Docker's context \"{name}\""));
            return found;
        }
        Context::Broken { name, reason } => {
            let place = format!("Docker's context \"{name}\"");
            found.refused.push(Refused { place, reason });
            return found;
        }
        Context::Unknown { file, reason } => found.refuse(&file, reason),
    }
    for (socket, flavour) in usual_places(config, probe) {
        found.consider(probe, socket, flavour, USUAL_PLACES);
    }
    found
}

impl Found {
    fn consider(&mut self, probe: &dyn Probe, socket: PathBuf, flavour: Flavour, from: impl Into<String>) {
        let from = from.into();
        if !socket.is_absolute() {
            self.refuse(&socket, format!("{from} is not an absolute path"));
            return;
        }
        let seen = probe.look(&socket);
        if seen == Seen::Absent {
            self.refuse(&socket, "no such file".to_owned());
        } else if seen == Seen::Hidden && from == USUAL_PLACES {
            // Most machines have folders like this without any engine in them.
            self.refuse(&socket, "this user may not look there".to_owned());
        } else {
            let address = Address::Socket(socket);
            if !self.candidates.iter().any(|c| c.address == address) {
                self.candidates.push(Candidate {
                    address,
                    flavour,
                    from,
                });
            }
        }
    }

    /// Of a value that is no text.
    fn refuse_variable(&mut self, variable: &str) {
        self.refused.push(Refused {
            place: variable.to_owned(),
            reason: "its value is not UTF-8".to_owned(),
        });
    }

    fn refuse(&mut self, place: &Path, reason: String) {
        self.refused.push(Refused {
            place: place.display().to_string(),
            reason,
        });
    }

    /// `tls` is what a TCP address is to be spoken to with, or why it cannot be.
    fn consider_host(
        &mut self,
        probe: &dyn Probe,
        host: &str,
        tls: Result<Option<Material>, String>,
        from: String,
    ) {
        let reason = match host.split_once("://") {
            Some(("unix", path)) => {
                self.consider(probe, PathBuf::from(path), Flavour::Unknown, from);
                return;
            }
            Some(("tcp", rest)) => match tls.and_then(|tls| Address::tcp(rest, tls)) {
                Ok(address) => {
                    self.candidates.push(Candidate {
                        address,
                        flavour: Flavour::Unknown,
                        from,
                    });
                    return;
                }
                Err(reason) => reason,
            },
            Some(("ssh", _)) => {
                "an engine over SSH is not supported: forward its socket (ssh -L /path:/run/docker.sock) and name that"
                    .to_owned()
            }
            Some((scheme, _)) => format!("an engine over {scheme} is not supported, only unix:// and tcp://"),
            None => "it is not of the form unix:///path or tcp://host:port".to_owned(),
        };
        // Only the scheme: the rest may hold a password.
        let scheme = host.split_once("://").map_or("", |(scheme, _)| scheme);
        self.refused.push(Refused {
            place: format!("{scheme}://… from {from}"),
            reason,
        });
    }
}

/// What Docker's variables say about TLS. It is never spoken without looking at who is there.
fn tls_of_environment(config: &DockerConfig) -> Result<Option<Material>, String> {
    let set = |name| config.env.non_empty(name);
    let folder = set("DOCKER_CERT_PATH").map(PathBuf::from);
    match (folder, set("DOCKER_TLS_VERIFY"), set("DOCKER_TLS")) {
        (Some(folder), _, _) if !folder.is_absolute() => {
            Err("DOCKER_CERT_PATH is not an absolute path".to_owned())
        }
        (Some(folder), _, _) => Ok(Some(Material::required_in(&folder))),
        (None, Some(_), _) => match context::folder(config) {
            Some(folder) => Ok(Some(Material::required_in(&folder))),
            None => Err("DOCKER_TLS_VERIFY is set, DOCKER_CERT_PATH is not".to_owned()),
        },
        (None, None, Some(_)) => {
            Err("DOCKER_TLS asks for TLS with whoever answers: set DOCKER_TLS_VERIFY instead".to_owned())
        }
        (None, None, None) => Ok(None),
    }
}

fn usual_places(config: &DockerConfig, probe: &dyn Probe) -> Vec<(PathBuf, Flavour)> {
    let mut places = vec![(PathBuf::from("/var/run/podman/podman.sock"), Flavour::Podman)];
    if let Some(dirs) = &config.dirs {
        places.extend(
            dirs.runtime
                .iter()
                .map(|run| (run.join("podman/podman.sock"), Flavour::Podman)),
        );
        places.push((
            dirs.home
                .join(".local/share/containers/podman/machine/podman.sock"),
            Flavour::Podman,
        ));
        places.extend(
            probe
                .entries(&dirs.temp.join("podman"))
                .into_iter()
                .filter(|path| {
                    path.file_name()
                        .is_some_and(|name| name.to_string_lossy().ends_with("-api.sock"))
                })
                .map(|path| (path, Flavour::Podman)),
        );
    }
    places.push((PathBuf::from("/var/run/docker.sock"), Flavour::Docker));
    if let Some(dirs) = &config.dirs {
        for below_home in [
            ".docker/run/docker.sock",
            ".docker/desktop/docker.sock",
            ".rd/docker.sock",
            ".orbstack/run/docker.sock",
        ] {
            places.push((dirs.home.join(below_home), Flavour::Docker));
        }
        places.push((dirs.home.join(".colima/default/docker.sock"), Flavour::Colima));
    }
    places
}

#[cfg(test)]
mod tests;
