//! From a deployment to a program with its arguments and environment.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use thv_core::TransportType;
use thv_process::ProcessError;
use thv_runtime::{DeploySpec, Error, Result};

use crate::LocalConfig;
use crate::error::{KIND, failed, invalid};
use crate::record::Record;

const FORMS: &str = "the local runtime runs exec:///absolute/program, uvx://package and npx://package";
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The variable by which the processes of an instance are found.
pub(crate) const TOKEN: &str = "TOOLHIVE_INSTANCE";

/// What is started.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    /// Without the token.
    pub(crate) env: BTreeMap<String, String>,
}

impl Program {
    pub(crate) fn of(config: &LocalConfig, spec: &DeploySpec) -> Result<Self> {
        let search = config.env.non_empty("PATH").unwrap_or(DEFAULT_PATH);
        let (path, mut args) = if let Some(path) = spec.image.strip_prefix("exec://") {
            (absolute(&spec.image, path)?, Vec::new())
        } else if let Some(package) = spec.image.strip_prefix("uvx://") {
            (
                find(&spec.image, "uvx", search)?,
                vec![checked(&spec.image, package)?],
            )
        } else if let Some(package) = spec.image.strip_prefix("npx://") {
            (
                find(&spec.image, "npx", search)?,
                vec!["-y".to_owned(), checked(&spec.image, package)?],
            )
        } else {
            return Err(invalid(
                "image",
                format!("\"{}\" is not a program: {FORMS}", spec.image.escape_debug()),
            ));
        };
        args.extend(spec.command.iter().cloned());
        if args.iter().any(|arg| arg.contains('\0')) {
            return Err(invalid("command", "an argument contains a zero byte"));
        }
        Ok(Self {
            path,
            args,
            env: environment(config, spec, search)?,
        })
    }
}

fn absolute(image: &str, path: &str) -> Result<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        let shown = image.escape_debug();
        return Err(invalid(
            "image",
            format!("\"{shown}\" names no absolute path: {FORMS}"),
        ));
    }
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(invalid("image", format!("{path} is not a file"))),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Err(Error::Denied {
            runtime: KIND.into(),
            detail: format!("{path} is not executable: chmod +x makes it so"),
        }),
        Ok(_) => Ok(PathBuf::from(path)),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(Error::Denied {
            runtime: KIND.into(),
            detail: format!("{path} cannot be reached by this user"),
        }),
        Err(error) => Err(missing(image, format!("{path}: {error}"))),
    }
}

fn checked(image: &str, package: &str) -> Result<String> {
    let odd = |c: char| c.is_control() || c.is_whitespace();
    if package.is_empty() || package.starts_with('-') || package.contains(odd) {
        return Err(invalid(
            "image",
            format!("\"{}\" names no package: {FORMS}", image.escape_debug()),
        ));
    }
    Ok(package.to_owned())
}

fn find(image: &str, program: &str, search: &str) -> Result<PathBuf> {
    let folders = search
        .split(':')
        .map(Path::new)
        .filter(|folder| folder.is_absolute());
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    folders
        .map(|folder| folder.join(program))
        .find(is_program)
        .ok_or_else(|| {
            missing(
                image,
                format!("{program} is in none of {search}: install it, or set PATH"),
            )
        })
}

fn missing(image: &str, detail: String) -> Error {
    Error::ImageNotFound {
        image: image.to_owned(),
        runtime: KIND.into(),
        detail,
    }
}

fn environment(config: &LocalConfig, spec: &DeploySpec, search: &str) -> Result<BTreeMap<String, String>> {
    let home = config.home(spec.name.as_str());
    let cache = config.dirs.cache.join("toolhive");
    let text = |path: PathBuf| {
        path.into_os_string().into_string().map_err(|path| {
            invalid(
                "directory",
                format!("{} is not UTF-8", Path::new(&path).display()),
            )
        })
    };
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), search.to_owned()),
        (
            "LANG".to_owned(),
            config.env.non_empty("LANG").unwrap_or("C.UTF-8").to_owned(),
        ),
        ("TMPDIR".to_owned(), text(home.join("tmp"))?),
        ("HOME".to_owned(), text(home)?),
        ("UV_CACHE_DIR".to_owned(), text(cache.join("uv"))?),
        ("UV_TOOL_DIR".to_owned(), text(cache.join("uv-tools"))?),
        ("UV_PYTHON_INSTALL_DIR".to_owned(), text(cache.join("uv-python"))?),
        ("npm_config_cache".to_owned(), text(cache.join("npm"))?),
    ]);
    for (name, value) in &spec.env {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
            let shown = name.escape_debug();
            return Err(invalid(
                "environment",
                format!("variable \"{shown}\" cannot be passed to a process"),
            ));
        }
        env.insert(name.clone(), value.clone());
    }
    env.remove(TOKEN);
    Ok(env)
}

/// The port that an HTTP server is asked to listen on.
pub(crate) fn port(spec: &DeploySpec) -> Option<u16> {
    let target = spec
        .target
        .as_ref()
        .filter(|_| spec.transport != TransportType::Stdio);
    target.map(|target| target.container_port)
}

/// Whether a process of ours was started with these values: the kernel keeps them, so we need not.
pub(crate) fn has_environment(pid: u32, program: &Program) -> bool {
    let Some(text) = thv_process::environment(pid) else {
        return false;
    };
    let has: HashSet<&[u8]> = text.split(|byte| *byte == 0).collect();
    program
        .env
        .iter()
        .all(|(name, value)| has.contains(format!("{name}={value}").as_bytes()))
}

pub(crate) fn not_started(record: &Record, program: &Program, error: ProcessError) -> Error {
    let path = program.path.display();
    match error {
        ProcessError::NotFound { .. } => missing(
            &record.image,
            format!("{path}, or the interpreter that it names, does not exist"),
        ),
        ProcessError::Denied { .. } => Error::Denied {
            runtime: KIND.into(),
            detail: format!("{path} may not be executed by this user"),
        },
        ProcessError::Unavailable { source, .. } => Error::StartFailed {
            name: record.workload.clone(),
            detail: format!("{path} could not be executed: {source}"),
            last_lines: Vec::new(),
        },
        other => failed(&format!("start {path}"), other),
    }
}
