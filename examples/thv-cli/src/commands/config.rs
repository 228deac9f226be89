//! `thv config`.

use std::process::ExitCode;

use thv::config::{ConfigFile, RegistrySetting, Settings};
use thv::core::{Dirs, Env};
use thv::registry::Source;

use super::{Done, Failure};
use crate::cli::{ConfigCommand, Format, SetRegistryArgs};
use crate::output::json::{self, Object};
use crate::output::{print, progress};

pub(super) async fn run(command: &ConfigCommand) -> Done {
    let env = Env::from_vars(std::env::vars_os());
    let dirs = Dirs::from_env(&env).map_err(|error| Failure::new(error.to_string()))?;
    let file = ConfigFile::new(&dirs);
    match command {
        ConfigCommand::Set(args) => set(args, &file, &dirs, &env).await,
        ConfigCommand::Get(args) => write(&file.read()?, args.format, "Current registry"),
        ConfigCommand::Unset(args) => {
            file.set_registry(&RegistrySetting::BuiltIn, false)?;
            write(&file.read()?, args.format, "The registry is again")
        }
    }
}

/// The registry is asked before anything is changed: a document that is refused changes no setting.
async fn set(args: &SetRegistryArgs, file: &ConfigFile, dirs: &Dirs, env: &Env) -> Done {
    // A damaged file is said before anybody is asked.
    file.read()?;
    let found = thv::registry::detect(&args.registry, args.allow_private_ip, dirs, env);
    let found = progress::during("asking the registry", found).await?;
    let setting = match found {
        Source::Api(url) => RegistrySetting::Api(url),
        Source::Url(url) => RegistrySetting::Url(url),
        Source::File(path) => RegistrySetting::File(path),
        other => return Err(Failure::new(format!("{other} cannot be set"))),
    };
    file.set_registry(&setting, args.allow_private_ip)?;
    write(&file.read()?, args.format, "The registry is now")
}

fn write(settings: &Settings, format: Format, head: &str) -> Done {
    let (kind, place) = match settings.registry() {
        RegistrySetting::Api(url) => ("api", url),
        RegistrySetting::Url(url) => ("url", url),
        RegistrySetting::File(path) => ("file", path.display().to_string()),
        _ => ("default", String::new()),
    };
    if format == Format::Json {
        let object = Object::default()
            .with("type", kind)
            .with_text("source", &place)
            .with("allow_private_registry_ip", settings.allow_private_registry_ip);
        json::print(&object.into())?;
        return Ok(ExitCode::SUCCESS);
    }
    let shown = match kind {
        "default" => "the built-in catalogue".to_owned(),
        "api" => format!("{place} (API)"),
        "file" => format!("{place} (file)"),
        _ => place,
    };
    print(&format!("{head}: {shown}\n"))?;
    Ok(ExitCode::SUCCESS)
}
