//! `thv secret`.

use std::io::Read as _;
use std::process::ExitCode;

use thv::config::ConfigFile;
use thv::core::{Dirs, Env, Json};
use thv::secrets::{EncryptedSecrets, ExposeSecret, Password, ProviderKind, SecretEntry, SecretString};

use super::{Done, Failure, Given, manager_given, password};
use crate::cli::{Format, PasswordArgs, SecretCommand, SecretListArgs};
use crate::output::json::{self, Object};
use crate::output::{note, print, prompt};

/// The longest value, in bytes.
const MAX_VALUE: u64 = 1024 * 1024;

pub(super) async fn run(command: &SecretCommand) -> Done {
    match command {
        SecretCommand::Setup(args) => set_up(args.provider.as_deref(), &args.password).await,
        SecretCommand::Provider(args) => set_up(Some(&args.provider), &args.password).await,
        SecretCommand::Set(args) => {
            let manager = manager_given(Given::password(&args.password)?)?;
            let value = value(&args.name).await?;
            manager.set_secret(&args.name, value).await?;
            note(&format!("secret \"{}\" is set", args.name));
            for name in manager.workloads_using_secret(&args.name).await? {
                note(&format!(
                    "\"{name}\" uses it: `thv restart {name}` gives it the new value"
                ));
            }
            Ok(ExitCode::SUCCESS)
        }
        SecretCommand::Get(args) => {
            let manager = manager_given(Given::password(&args.password)?)?;
            let value = manager.secrets().get(&args.name).await?;
            print(&format!("{}\n", value.expose_secret()))?;
            Ok(ExitCode::SUCCESS)
        }
        SecretCommand::Delete(args) => {
            let manager = manager_given(Given::password(&args.password)?)?;
            manager.delete_secret(&args.name).await?;
            note(&format!("secret \"{}\" is deleted", args.name));
            for name in manager.workloads_using_secret(&args.name).await? {
                note(&format!(
                    "Warning: \"{name}\" uses it, and cannot be started without it"
                ));
            }
            Ok(ExitCode::SUCCESS)
        }
        SecretCommand::List(args) => list(args).await,
    }
}

async fn list(args: &SecretListArgs) -> Done {
    let manager = manager_given(Given::password(&args.password)?)?;
    let entries = manager.secrets().list().await?;
    if args.format == Format::Json {
        let object = |entry: &SecretEntry| {
            let named = Object::default().with_text("name", &entry.name);
            Json::from(match &entry.description {
                Some(text) => named.with_text("description", text),
                None => named,
            })
        };
        json::print(&entries.iter().map(object).collect())?;
    } else if entries.is_empty() {
        note("No secrets found");
    } else {
        for entry in entries {
            print(&format!("{}\n", entry.name.escape_debug()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The value of a secret: typed where nobody sees it, or all of standard input without the one newline at its end.
async fn value(name: &str) -> Result<SecretString, Failure> {
    if prompt::has_somebody_to_ask() {
        let text = prompt::ask(&format!("Value of \"{}\": ", name.escape_debug()), true).await?;
        return Ok(SecretString::from(text));
    }
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        std::io::stdin()
            .lock()
            .take(MAX_VALUE + 1)
            .read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    });
    let text = read
        .await
        .map_err(std::io::Error::other)?
        .map_err(|error| Failure::new(format!("cannot read the value from standard input: {error}")))?;
    if text.len() as u64 > MAX_VALUE {
        return Err(Failure::new(format!("a value has at most {MAX_VALUE} bytes")));
    }
    Ok(SecretString::from(without_newline(&text)))
}

/// What commands like `echo` add is no part of a value; further empty lines are, as in a key that a file had.
fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// Nothing is written before the provider has been tried.
async fn set_up(provider: Option<&str>, given: &PasswordArgs) -> Done {
    let env = Env::from_vars(std::env::vars_os());
    let dirs = Dirs::from_env(&env).map_err(|error| Failure::new(error.to_string()))?;
    let file = ConfigFile::new(&dirs);
    file.read()?;
    let kind: ProviderKind = match provider {
        Some(text) => text.parse()?,
        None if prompt::has_somebody_to_ask() => {
            let question = "Where are secrets kept, encrypted or environment? [encrypted] ";
            match prompt::ask(question, false).await?.trim() {
                "" => ProviderKind::Encrypted,
                text => text.parse()?,
            }
        }
        None => {
            return Err(Failure::new(
                "which provider? `thv secret setup encrypted`, `environment` or `none`",
            ));
        }
    };
    match kind {
        ProviderKind::Encrypted => encrypted(&dirs, given).await?,
        kind if given.secrets_password_fd.is_some() => {
            return Err(Failure::new(format!(
                "--secrets-password-fd has no effect on the {kind} provider: leave it out"
            )));
        }
        ProviderKind::OnePassword => {
            return Err(Failure::new(
                "the 1password secrets provider is not built yet: use encrypted or environment",
            ));
        }
        _ => {}
    }
    file.set_secrets(kind.as_str(), true)?;
    note(&format!("secrets are kept by the {kind} provider"));
    Ok(ExitCode::SUCCESS)
}

/// The password is kept in the keyring once it has opened the file, or is to be given with each command.
async fn encrypted(dirs: &Dirs, args: &PasswordArgs) -> Result<(), Failure> {
    let path = dirs.secrets_file();
    if let Some(given) = password::given(args)? {
        return Ok(EncryptedSecrets::new(path, Password::given(given))
            .unlock()
            .await?);
    }
    let keyring = thv::system_keyring();
    let kept = keyring.read().await.map_err(|error| {
        let error = Failure::from(error);
        Failure::new(format!("{error}; give the password with --secrets-password-fd"))
    })?;
    let password = match &kept {
        Some(kept) => kept.clone(),
        None if prompt::has_somebody_to_ask() => new_password(path.exists()).await?,
        None => {
            return Err(Failure::new(
                "the keyring has no password yet, and there is no terminal to ask on: give it with --secrets-password-fd",
            ));
        }
    };
    let secrets = EncryptedSecrets::new(path, Password::given(password.clone()));
    secrets.unlock().await?;
    if kept.is_none() {
        keyring.write(&password).await?;
    }
    Ok(())
}

async fn new_password(exists: bool) -> Result<SecretString, Failure> {
    let password = prompt::ask("Password of the encrypted secrets: ", true).await?;
    if password.is_empty() {
        return Err(Failure::new("a password has at least one character"));
    }
    if !exists && prompt::ask("Once more: ", true).await? != password {
        return Err(Failure::new("these are two different passwords"));
    }
    Ok(SecretString::from(password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_newline_is_no_part_of_a_value() {
        for (text, value) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\nb\n\n", "a\nb\n"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(without_newline(text), value, "{text:?}");
        }
    }
}
