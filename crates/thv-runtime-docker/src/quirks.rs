//! In what engines differ, in one place. Nothing else asks which engine it is.

use crate::wire::{Container, Create, Info, Mount, MountPoint, Network, TmpfsOptions, Version};
use crate::{EngineInfo, Flavour};

/// What Docker says of itself in its answer to a ping; Podman has to be asked whether it is rootless anyway.
pub(crate) fn version_in_ping(headers: &http::HeaderMap) -> Option<Version> {
    let text = |name| headers.get(name)?.to_str().ok();
    let server = text("server")?.strip_prefix("Docker/")?;
    Some(Version {
        version: server.split_whitespace().next()?.to_owned(),
        api_version: text("api-version")?.to_owned(),
        min_api_version: String::new(),
        components: None,
    })
}

/// Whether an engine refuses a second network of the same name. Docker does since API 1.44; before, it looks first
/// (`CheckDuplicate`), and of two that are asked for at once it makes both.
pub(crate) fn network_names_are_unique(engine: &EngineInfo) -> bool {
    engine.flavour == Flavour::Podman || engine.speaks(1, 44)
}

/// What a network is called that is to go unless it is in use. Podman 4.3 compares that with the names of its containers'
/// networks: called by its id, one goes under those who are on it. Names are found no more then, also on the next one of that
/// name, since its resolver stays at an address of the first.
pub(crate) fn removed_as<'a>(engine: &EngineInfo, network: &'a Network) -> &'a str {
    if engine.flavour == Flavour::Podman {
        &network.name
    } else {
        &network.id
    }
}

/// Whether a network stays because somebody is on it, by words alone: statuses differ.
pub(crate) fn is_network_in_use(message: &str) -> bool {
    message.contains("active endpoints") || message.ends_with("network is being used")
}

/// The limit of processes that the engine gives a container for which none is asked.
pub(crate) fn default_pids_limit(engine: &EngineInfo) -> i64 {
    if engine.flavour == Flavour::Podman {
        2048
    } else {
        0
    }
}

/// Whether a container can have an init process: Docker says whether it finds its own. Podman does not say, and refuses
/// the container if there is none; its containers go without.
pub(crate) fn has_init(info: &Info) -> bool {
    !info.logging_driver.is_empty() && info.init_commit.id.as_deref().is_some_and(|id| id != "N/A")
}

/// Whether the engine itself gives every container this variable. Podman shows its own among those that were asked for.
pub(crate) fn brings_variable(engine: &EngineInfo, variable: &str) -> bool {
    let name = variable.split('=').next().unwrap_or_default();
    engine.flavour == Flavour::Podman && matches!(name, "PATH" | "TERM" | "HOME" | "HOSTNAME" | "container")
}

/// What an engine calls itself, the same at each start and however it is reached; `None` where it makes up a new name for
/// each answer, as Podman does.
pub(crate) fn own_name<'a>(engine: &EngineInfo, info: &'a Info) -> Option<&'a str> {
    let named = engine.flavour != Flavour::Podman && !info.id.is_empty();
    named.then_some(info.id.as_str())
}

/// Whether a container went away while the engine looked at it, on its own or among others. Docker says 404 or leaves it out
/// of the list; Podman fails.
pub(crate) fn is_lost_race(status: u16, message: &str) -> bool {
    status == 500 && message.to_lowercase().contains("no such container")
}

/// Whether a process ended while the engine read about it, which says nothing of its container: Podman fails then.
pub(crate) fn is_passing(status: u16, message: &str) -> bool {
    status == 500 && message.to_lowercase().contains("no such process")
}

/// Whether an attachment met a container that has ended, which the engine does not know yet: nobody listens at Podman's
/// socket for it any more.
pub(crate) fn is_attach_to_ended(status: u16, message: &str) -> bool {
    let words = message.to_lowercase();
    status == 500 && words.contains("attach socket") && words.ends_with("connection refused")
}

/// Whether a removal by force failed because the container ended by itself at that moment, or was paused and has ended now, as
/// Podman's do.
pub(crate) fn is_ending(status: u16, message: &str) -> bool {
    let words = message.to_lowercase();
    status == 500
        && ((words.contains("could not be stopped") && words.contains("state improper"))
            || words.ends_with("state improper: stopped"))
}

/// Whether a stop failed because the container is paused. Docker lets it go on for that; Podman does not.
pub(crate) fn is_paused(status: u16, message: &str) -> bool {
    status == 500 && message.contains("running or paused, refusing to clean up")
}

/// Whether runc lost its own helper in the middle of a start, before that became the container's program: seen where very much is
/// started at a time.
pub(crate) fn is_lost_start(status: u16, message: &str) -> bool {
    status == 500 && message.contains("read init-p: connection reset by peer")
}

/// What somebody enters to let a container go on that was paused.
pub(crate) fn unpausing(engine: Option<&EngineInfo>, container: &str) -> String {
    let podman = engine.is_some_and(|engine| engine.flavour == Flavour::Podman);
    let program = if podman { "podman" } else { "docker" };
    format!("`{program} unpause {container}`")
}

/// Whether there is no image of the name for a container. Docker and Podman have the same words for it, among others of theirs.
pub(crate) fn is_missing_image(status: u16, message: &str) -> bool {
    status == 404 && message.to_lowercase().contains("no such image")
}

/// Whether nobody says what a container is to run: neither who asks for it nor its image. Podman has no status for that.
pub(crate) fn is_without_command(status: u16, message: &str) -> bool {
    let words = message.to_lowercase();
    (status == 400 && words.ends_with("no command specified"))
        || (status == 500 && words.contains("no command or entrypoint provided"))
}

/// Whether another container has the name that a new one was to have. Podman has no status for that.
pub(crate) fn is_name_taken(status: u16, message: &str) -> bool {
    status == 409 || (status == 500 && message.ends_with("that name is already in use"))
}

/// Whether an engine refuses what it was asked to mount, unlike one that fails to mount what it has itself (`error creating
/// overlay mount to …`). Docker's status tells the two apart; Podman's does not.
pub(crate) fn is_refused_mount(status: u16, message: &str) -> bool {
    match status {
        400 => ["invalid mount config for type ", "Duplicate mount point: "]
            .iter()
            .any(|words| message.starts_with(words)),
        500 => message.ends_with(": duplicate mount destination"),
        _ => false,
    }
}

/// Whether an engine makes an empty folder of this machine where the source of a mount is not there. Docker refuses that.
pub(crate) fn makes_missing_sources(engine: &EngineInfo) -> bool {
    engine.flavour == Flavour::Podman
}

/// Whether the last lines of a log can be asked for. Podman leaves out what a program wrote of them before their end, as one
/// does that writes a line and its end in two pieces.
pub(crate) fn has_last_lines(engine: &EngineInfo) -> bool {
    engine.flavour != Flavour::Podman
}

/// Whether an engine's last words of a pull say what it came to. Podman just ends.
pub(crate) fn says_what_a_pull_came_to(engine: &EngineInfo) -> bool {
    engine.flavour != Flavour::Podman
}

/// Whether this is one of the last words of a pull, by the engines that have such.
pub(crate) fn is_what_a_pull_came_to(status: &str) -> bool {
    status.starts_with("Digest: ") || status.starts_with("Status: ")
}

/// Whether an engine runs as a user other than root.
pub(crate) fn is_rootless(info: &Info) -> bool {
    info.security_options
        .iter()
        .any(|option| option == "name=rootless")
}

/// Why networks are not isolated on this engine. On Podman that runs as root each way out that the tests try is closed, as on
/// Docker. Without root its networks are in a namespace behind a program (slirp4netns, pasta) that has addresses of its own
/// for the host: which of them lead there was not tried.
pub(crate) fn isolation_lacks(engine: &EngineInfo) -> Option<&'static str> {
    engine.rootless.then_some(
        "on Podman without root it was not tried, where the host has addresses that nobody tells: use Podman as root, or \
         Docker",
    )
}

/// Which events of containers can be asked for without the others. Old Podman wants each event to be all that are named.
pub(crate) fn told_actions(engine: &EngineInfo) -> Option<&'static [&'static str]> {
    (engine.flavour != Flavour::Podman)
        .then_some(&["create", "start", "die", "oom", "pause", "unpause", "destroy"])
}

/// What creates a container on this engine. Podman copies into a tmpfs what is below it, which is what it is to hide:
/// it is told not to, and hears that only in another place. It keeps ports below 1024 from servers without a capability
/// for them, also in a network of their own, where Docker lets every server have them.
pub(crate) fn as_engine_takes(engine: &EngineInfo, wanted: &Create) -> Create {
    let mut wanted = wanted.clone();
    if engine.flavour == Flavour::Podman {
        let host = &mut wanted.host_config;
        if has_own_network(&host.network_mode) {
            host.sysctls.insert(FIRST_PORT.to_owned(), "0".to_owned());
        }
        host.mounts.retain(|mount| {
            let Some(options) = mount.tmpfs_options.as_ref().filter(|_| mount.kind == "tmpfs") else {
                return true;
            };
            let access = if mount.read_only { "ro" } else { "rw" };
            let (size, mode) = (options.size_bytes, options.mode);
            let options = format!("{access},size={size},mode=0{mode:o},notmpcopyup");
            host.tmpfs.insert(mount.target.clone(), options);
            false
        });
    }
    wanted
}

/// The first port that needs no capability, of a network.
const FIRST_PORT: &str = "net.ipv4.ip_unprivileged_port_start";

/// Whether a container of this mode shares the network of nobody.
fn has_own_network(mode: &str) -> bool {
    mode != "host" && !mode.starts_with("container:") && !mode.starts_with("ns:")
}

/// Whether a volume has a name that the engine made up.
fn is_volume_of_nobody(mount: &MountPoint) -> bool {
    mount.kind == "volume" && mount.name.len() == 64 && mount.name.bytes().all(|b| b.is_ascii_hexdigit())
}

fn tmpfs_of(target: &str, options: &str) -> Mount {
    let given = |name: &str| options.split(',').find_map(|option| option.strip_prefix(name));
    Mount {
        kind: "tmpfs".to_owned(),
        source: String::new(),
        target: target.to_owned(),
        read_only: options.split(',').any(|option| option == "ro"),
        tmpfs_options: Some(TmpfsOptions {
            size_bytes: given("size=").and_then(|size| size.parse().ok()).unwrap_or(0),
            mode: given("mode=")
                .and_then(|mode| u32::from_str_radix(mode, 8).ok())
                .unwrap_or(0),
        }),
    }
}

/// What an inspection would say if the engine told it as Docker does. Podman tells some things otherwise, and what it does
/// not tell counts as it is wanted: how the streams were asked for, the port that was left to the engine.
pub(crate) fn as_docker_tells(engine: &EngineInfo, found: &Container, wanted: &Create) -> Container {
    let mut found = found.clone();
    if engine.flavour != Flavour::Podman {
        return found;
    }
    let (config, host) = (&mut found.config, &mut found.host_config);
    config.attach_stdin = wanted.config.attach_stdin;
    config.attach_stdout = wanted.config.attach_stdout;
    config.attach_stderr = wanted.config.attach_stderr;
    config.stdin_once = wanted.config.stdin_once;
    if host.network_mode == "bridge"
        && let Some(name) = found
            .network_settings
            .iter()
            .flat_map(|settings| &settings.networks)
            .next()
    {
        // The default network is a network like any other.
        let name = if name == "podman" { "bridge" } else { name };
        name.clone_into(&mut host.network_mode);
    }
    // It names each capability of its own list.
    if host.cap_drop.len() > 1 && host.cap_add.is_empty() {
        host.cap_drop = vec!["ALL".to_owned()];
    }
    if host.mounts.is_empty() {
        // Those that the image asks for are told like those that were wanted.
        let wanted = &wanted.host_config.mounts;
        let brought = |mount: &&MountPoint| {
            is_volume_of_nobody(mount) && !wanted.iter().any(|wanted| wanted.target == mount.destination)
        };
        let mounts = found
            .mounts
            .iter()
            .filter(|mount| !brought(mount))
            .map(|mount| Mount {
                kind: mount.kind.clone(),
                source: if mount.kind == "volume" {
                    mount.name.clone()
                } else {
                    mount.source.clone()
                },
                target: mount.destination.clone(),
                read_only: !mount.writable,
                tmpfs_options: None,
            });
        // Those that copy are its own, over /run and the like.
        let ours = host
            .tmpfs
            .iter()
            .filter(|(_, options)| !options.split(',').any(|o| o == "tmpcopyup"));
        host.mounts = mounts
            .chain(ours.map(|(target, options)| tmpfs_of(target, options)))
            .collect();
    }
    for (port, bindings) in &wanted.host_config.port_bindings {
        let told = host.port_bindings.get_mut(port).into_iter().flatten().flatten();
        for (told, wanted) in told.zip(bindings.iter().flatten()) {
            if wanted.host_port == "0" {
                told.host_port.clone_from(&wanted.host_port);
            }
        }
    }
    found
}
