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
mod tests {
    use std::collections::BTreeMap;

    use thv_core::{Dirs, Env};

    use super::*;

    /// Paths and what is in them; sockets are empty.
    struct Files(BTreeMap<PathBuf, &'static str>);

    impl Files {
        fn sockets(paths: &[&'static str]) -> Self {
            Self(paths.iter().map(|path| (PathBuf::from(path), "")).collect())
        }
    }

    impl Probe for Files {
        fn look(&self, path: &Path) -> Seen {
            if path.starts_with("/var/run/podman") || path.starts_with("/hidden") {
                Seen::Hidden
            } else if self.0.contains_key(path) {
                Seen::There
            } else {
                Seen::Absent
            }
        }
        fn entries(&self, folder: &Path) -> Vec<PathBuf> {
            let below =
                |file: &PathBuf| Some(folder.join(file.strip_prefix(folder).ok()?.components().next()?));
            let mut entries: Vec<_> = self.0.keys().filter_map(below).collect();
            entries.dedup();
            entries
        }
        fn read(&self, file: &Path) -> Option<Result<String, String>> {
            self.0.get(file).map(|text| Ok((*text).to_owned()))
        }
    }

    fn check(vars: &[(&str, &str)], files: &[&'static str], tried: &[&str], refused: &[(&str, &str)]) {
        check_in(&Files::sockets(files), vars, tried, refused);
    }

    fn check_in(files: &Files, vars: &[(&str, &str)], tried: &[&str], refused: &[(&str, &str)]) {
        let env = Env::from_vars(vars.iter().copied());
        let config = DockerConfig::discover(env, Dirs::under("/r"));
        let found = discover(&config, files);
        let paths: Vec<_> = found.candidates.iter().map(|c| c.address.to_string()).collect();
        assert_eq!(paths, tried, "{vars:?} {:?}", files.0);
        for (place, reason) in refused {
            assert!(
                found
                    .refused
                    .iter()
                    .any(|r| r.place == *place && r.reason.contains(reason)),
                "{place} is not refused with {reason:?}: {:?}",
                found.refused
            );
        }
    }

    #[test]
    fn the_search_follows_the_documented_order() {
        let all = [
            "/r/home/.colima/default/docker.sock",
            "/r/home/.orbstack/run/docker.sock",
            "/var/run/docker.sock",
            "/r/tmp/podman/x-api.sock",
            "/r/tmp/podman/other.sock",
            "/r/run/podman/podman.sock",
        ];
        let in_order = [
            "/r/run/podman/podman.sock",
            "/r/tmp/podman/x-api.sock",
            "/var/run/docker.sock",
            "/r/home/.orbstack/run/docker.sock",
            "/r/home/.colima/default/docker.sock",
        ];
        check(
            &[],
            &all,
            &in_order,
            &[("/r/home/.rd/docker.sock", "no such file")],
        );
        check(&[], &[], &[], &[("/var/run/docker.sock", "no such file")]);
    }

    #[test]
    fn a_folder_that_is_closed_to_this_user_is_tried_only_if_it_was_named() {
        let closed = [("/var/run/podman/podman.sock", "may not look")];
        check(&[], &[], &[], &closed);
        check(&[], &["/var/run/docker.sock"], &["/var/run/docker.sock"], &closed);
        check(
            &[("TOOLHIVE_PODMAN_SOCKET", "/hidden/p")],
            &[],
            &["/hidden/p"],
            &[],
        );
    }

    #[test]
    fn a_variable_that_is_no_text_is_not_ignored() {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt as _;
        let files = Files::sockets(&["/var/run/docker.sock", "/h"]);
        let sockets = [
            "TOOLHIVE_PODMAN_SOCKET",
            "TOOLHIVE_DOCKER_SOCKET",
            "TOOLHIVE_COLIMA_SOCKET",
        ];
        for variable in sockets.into_iter().chain(DOCKERS) {
            let vars = [
                (variable, OsStr::from_bytes(b"unix:///h\xff")),
                ("DOCKER_HOST", OsStr::new("unix:///h")),
            ];
            let vars = vars
                .into_iter()
                .take(if variable == "DOCKER_HOST" { 1 } else { 2 });
            let config = DockerConfig::discover(Env::from_vars(vars), Dirs::under("/r"));
            let found = discover(&config, &files);
            assert_eq!(found.candidates, [], "{variable}");
            let refused = [Refused {
                place: variable.to_owned(),
                reason: "its value is not UTF-8".to_owned(),
            }];
            assert_eq!(found.refused, refused);
        }
    }

    #[test]
    fn a_place_that_the_user_names_is_the_only_one() {
        let files = ["/var/run/docker.sock", "/p", "/d", "/c", "/h"];
        check(
            &[("TOOLHIVE_COLIMA_SOCKET", "/c"), ("DOCKER_HOST", "unix:///h")],
            &files,
            &["/c"],
            &[],
        );
        check(
            &[("TOOLHIVE_COLIMA_SOCKET", "/c"), ("TOOLHIVE_PODMAN_SOCKET", "/p")],
            &files,
            &["/p"],
            &[],
        );
        check(&[("DOCKER_HOST", "unix:///h")], &files, &["/h"], &[]);
        check(&[("DOCKER_HOST", "")], &files, &["/var/run/docker.sock"], &[]);
        check(
            &[("TOOLHIVE_DOCKER_SOCKET", "/gone")],
            &files,
            &[],
            &[("/gone", "no such file")],
        );
        check(
            &[("TOOLHIVE_DOCKER_SOCKET", "d")],
            &files,
            &[],
            &[("d", "absolute")],
        );
        let far = [("DOCKER_HOST", "tcp://user:hunter2@far:2376")];
        check(
            &far,
            &files,
            &[],
            &[("tcp://… from DOCKER_HOST", "no user and password")],
        );
        check(
            &[("DOCKER_HOST", "fd://x")],
            &files,
            &[],
            &[("fd://… from DOCKER_HOST", "only unix:// and tcp://")],
        );
        check(
            &[("DOCKER_HOST", "ssh://far")],
            &files,
            &[],
            &[("ssh://… from DOCKER_HOST", "forward its socket")],
        );
        check(
            &[("DOCKER_HOST", "far:2375")],
            &files,
            &[],
            &[("://… from DOCKER_HOST", "not of the form")],
        );
    }

    #[test]
    fn a_tcp_engine_is_tried_with_the_certificates_that_docker_would_use() {
        let found = |vars: &[(&str, &str)]| {
            let config = DockerConfig::discover(Env::from_vars(vars.iter().copied()), Dirs::under("/r"));
            discover(&config, &Files::sockets(&["/var/run/docker.sock"]))
        };
        let far = ("DOCKER_HOST", "tcp://far.test");
        let verify = ("DOCKER_TLS_VERIFY", "1");
        let at = |port, folder: &str| Address::Tcp {
            host: "far.test".to_owned(),
            port,
            tls: Some(Material::required_in(Path::new(folder))),
        };
        for (vars, address) in [
            (&[far, verify][..], at(2376, "/r/home/.docker")),
            (&[far, verify, ("DOCKER_CONFIG", "/other")], at(2376, "/other")),
            (&[far, verify, ("DOCKER_CERT_PATH", "/certs")], at(2376, "/certs")),
            // Docker would not look at who is there; this does.
            (&[far, ("DOCKER_CERT_PATH", "/certs")], at(2376, "/certs")),
            (
                &[
                    ("DOCKER_HOST", "tcp://far.test:99"),
                    verify,
                    ("DOCKER_CERT_PATH", "/certs"),
                ],
                at(99, "/certs"),
            ),
            (
                &[("DOCKER_HOST", "tcp://127.0.0.1")],
                Address::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port: 2375,
                    tls: None,
                },
            ),
        ] {
            let found = found(vars);
            let addresses: Vec<_> = found.candidates.iter().map(|c| &c.address).collect();
            assert_eq!(addresses, [&address], "{vars:?} {:?}", found.refused);
        }
        for (vars, reason) in [
            (&[far][..], "DOCKER_TLS_VERIFY=1"),
            (&[far, ("DOCKER_TLS", "1")], "set DOCKER_TLS_VERIFY instead"),
            (&[far, ("DOCKER_CERT_PATH", "certs")], "not an absolute path"),
        ] {
            let found = found(vars);
            assert!(found.candidates.is_empty(), "{vars:?}");
            assert!(
                found.refused[0].reason.contains(reason),
                "{vars:?} {:?}",
                found.refused
            );
        }
    }

    #[test]
    fn a_context_brings_its_own_certificates() {
        let folder = Path::new("/r/home/.docker/contexts/tls").join(context::digest("secure"));
        let mut files = Files::sockets(&["/var/run/docker.sock"]);
        for (file, text) in [
            ("config.json", r#"{"currentContext":"secure"}"#),
            (
                "contexts/meta/1/meta.json",
                r#"{"Name":"secure","Endpoints":{"docker":{"Host":"tcp://far.test:2376"}}}"#,
            ),
            (
                "contexts/meta/2/meta.json",
                r#"{"Name":"blind","Endpoints":{"docker":{"Host":"tcp://far.test:2376","SkipTLSVerify":true}}}"#,
            ),
        ] {
            files.0.insert(Path::new("/r/home/.docker").join(file), text);
        }
        files.0.insert(folder.join("docker/ca.pem"), "");
        let config = DockerConfig::discover(Env::default(), Dirs::under("/r"));
        let found = discover(&config, &files);
        let address = Address::Tcp {
            host: "far.test".to_owned(),
            port: 2376,
            tls: Some(Material::in_context(&folder.join("docker"))),
        };
        assert_eq!(found.candidates[0].address, address);
        // One that does not look at who is there is refused, and so is one without certificates.
        check_in(
            &files,
            &[("DOCKER_CONTEXT", "blind")],
            &[],
            &[(r#"tcp://… from Docker's context "blind""#, "SkipTLSVerify")],
        );
        files.0.remove(&folder.join("docker/ca.pem"));
        check_in(
            &files,
            &[],
            &[],
            &[(r#"tcp://… from Docker's context "secure""#, "DOCKER_TLS_VERIFY")],
        );
    }

    /// What the configuration file says, the variables, what is tried, what is refused and why.
    type Row = (&'static str, Pairs, &'static [&'static str], Pairs);
    type Pairs = &'static [(&'static str, &'static str)];

    /// A home whose user chose a context, with an engine in the usual place too.
    fn home_with(chosen: &'static str) -> Files {
        let mut files = Files::sockets(&["/var/run/docker.sock", "/desk.sock", "/h", "/elsewhere.sock"]);
        for (file, text) in [
            ("/r/home/.docker/config.json", chosen),
            (
                "/r/home/.docker/contexts/meta/00aa/meta.json",
                r#"{"Name":"desktop","Metadata":{},"Endpoints":{"docker":{"Host":"unix:///desk.sock","SkipTLSVerify":false}}}"#,
            ),
            (
                "/r/home/.docker/contexts/meta/01/meta.json",
                r#"{"Name":"far","Endpoints":{"docker":{"Host":"ssh://me:hunter2@far"}}}"#,
            ),
            (
                "/r/home/.docker/contexts/meta/02/meta.json",
                r#"{"Name":"empty"}"#,
            ),
            ("/r/home/.docker/contexts/meta/03/meta.json", "{"),
            ("/other/config.json", r#"{"currentContext":"mine"}"#),
            (
                "/other/contexts/meta/x/meta.json",
                r#"{"Name":"mine","Endpoints":{"docker":{"Host":"unix:///elsewhere.sock"}}}"#,
            ),
        ] {
            files.0.insert(file.into(), text);
        }
        files
    }

    #[test]
    fn the_active_context_of_docker_is_the_only_place_unless_something_else_is_named() {
        let rows: [Row; 13] = [
            (
                r#"{"auths":{},"currentContext":"desktop"}"#,
                &[],
                &["/desk.sock"],
                &[],
            ),
            ("{}", &[], &["/var/run/docker.sock"], &[]),
            (
                r#"{"currentContext":"default"}"#,
                &[],
                &["/var/run/docker.sock"],
                &[],
            ),
            (r#"{"currentContext":""}"#, &[], &["/var/run/docker.sock"], &[]),
            (
                r#"{"currentContext":"gone"}"#,
                &[],
                &[],
                &[(r#"Docker's context "gone""#, "no such context")],
            ),
            (
                r#"{"currentContext":"empty"}"#,
                &[],
                &[],
                &[(r#"Docker's context "empty""#, "names no engine")],
            ),
            (
                r#"{"currentContext":"far"}"#,
                &[],
                &[],
                &[(r#"ssh://… from Docker's context "far""#, "forward its socket")],
            ),
            (
                "not json",
                &[],
                &["/var/run/docker.sock"],
                &[("/r/home/.docker/config.json", "expected")],
            ),
            ("{}", &[("DOCKER_CONTEXT", "desktop")], &["/desk.sock"], &[]),
            (
                r#"{"currentContext":"desktop"}"#,
                &[("DOCKER_CONTEXT", "default")],
                &["/var/run/docker.sock"],
                &[],
            ),
            (
                r#"{"currentContext":"desktop"}"#,
                &[("DOCKER_HOST", "unix:///h"), ("DOCKER_CONTEXT", "desktop")],
                &["/h"],
                &[],
            ),
            (
                r#"{"currentContext":"desktop"}"#,
                &[("TOOLHIVE_DOCKER_SOCKET", "/h")],
                &["/h"],
                &[],
            ),
            ("{}", &[("DOCKER_CONFIG", "/other")], &["/elsewhere.sock"], &[]),
        ];
        for (chosen, vars, tried, refused) in rows {
            check_in(&home_with(chosen), vars, tried, refused);
        }
    }

    #[test]
    fn a_configured_socket_wins_over_everything() {
        let mut config = DockerConfig::at("/mine");
        config.env = Env::from_vars([("DOCKER_HOST", "unix:///h")]);
        let found = discover(&config, &Files::sockets(&["/mine", "/h"]));
        assert_eq!(found.candidates[0].address, Address::Socket("/mine".into()));
        assert_eq!(found.candidates.len(), 1);
    }
}
