//! One file for each verb.

mod completion;
mod config;
mod events;
mod export;
mod group;
mod list;
mod logs;
mod reconcile;
mod registry;
mod rm;
mod run;
mod runtime;
mod secret;
mod start;
mod status;
mod stop;
mod upgrade;
mod version;

mod foreground;
mod here;
mod interrupted;
mod names;
mod outcome;
mod password;
mod questions;
mod results;
mod unit;

pub(crate) use completion::answered as answered_completion;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use thv::core::{Dirs, Env};
use thv::manager::{Detached, Launcher, Manager};
use thv::secrets::SecretString;

use crate::cli::{Cli, Command, PasswordArgs, UpgradeCommand};
use crate::output::{error, note};

/// Who launches what this program runs, as records name it.
const LAUNCHER: &str = "thv";

/// What a command failed with, ready to be shown.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Failure {
    fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<thv::manager::Error> for Failure {
    fn from(error: thv::manager::Error) -> Self {
        Self(error::report(&error))
    }
}

impl From<thv::registry::Error> for Failure {
    fn from(error: thv::registry::Error) -> Self {
        Self(error::chain(&error))
    }
}

impl From<thv::config::Error> for Failure {
    fn from(error: thv::config::Error) -> Self {
        Self(error::chain(&error))
    }
}

impl From<thv::secrets::SecretError> for Failure {
    fn from(error: thv::secrets::SecretError) -> Self {
        Self(error::chain(&error))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(format!("cannot write: {error}"))
    }
}

impl From<thv::core::InvalidName> for Failure {
    fn from(error: thv::core::InvalidName) -> Self {
        Self(error.to_string())
    }
}

type Done = Result<ExitCode, Failure>;

/// Carries a command out. Ctrl-C drops a verb, which releases what it holds; one in the foreground ends in order.
pub(crate) async fn run(cli: &Cli) -> Done {
    foreground::outlive_long_files();
    match &cli.command {
        Command::Run(args) if args.foreground => run::foreground(args, cli.debug).await,
        Command::Start(args) | Command::Restart(args) if args.foreground => {
            let restart = matches!(cli.command, Command::Restart(_));
            start::foreground(args, restart).await
        }
        Command::Upgrade(UpgradeCommand::Apply(args)) => upgrade::apply(args).await,
        _ => tokio::select! {
            done = dispatch(cli) => done,
            signal = foreground::signal() => {
                interrupted::say(cli).await;
                Ok(ExitCode::from(128_u8.saturating_add(signal)))
            }
        },
    }
}

async fn dispatch(cli: &Cli) -> Done {
    match &cli.command {
        Command::Run(args) => run::run(args, cli.debug).await,
        Command::List(args) => list::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Stop(args) => stop::run(args).await,
        Command::Start(args) => start::run(args, false).await,
        Command::Restart(args) => start::run(args, true).await,
        Command::Rm(args) => rm::run(args).await,
        Command::Group(command) => group::run(command).await,
        Command::Logs(args) => logs::run(args).await,
        Command::Events(args) => events::run(args).await,
        Command::Export(args) => export::run(args).await,
        Command::Reconcile(args) => reconcile::run(args).await,
        Command::Upgrade(UpgradeCommand::Check(args)) => upgrade::check(args).await,
        Command::Upgrade(UpgradeCommand::Apply(args)) => upgrade::apply(args).await,
        Command::Registry(command) => registry::run(command).await,
        Command::Search(args) => registry::search(args).await,
        Command::Config(command) => config::run(command).await,
        Command::Secret(command) => secret::run(command).await,
        Command::Runtime(command) => runtime::run(command).await,
        Command::Version(args) => version::run(args),
        Command::Completion { shell } => completion::run(*shell),
    }
}

/// Whether this process is a detached proxy.
pub(crate) fn is_detached() -> bool {
    std::env::var_os("TOOLHIVE_DETACHED").is_some_and(|value| value == "1")
}

/// The manager of the command line, for what starts no server. In place of a number of the environment that is none the
/// default will do here, and that is said: whoever wants to see or to stop something can.
fn manager() -> Result<Manager, Failure> {
    let mut env = environment();
    loop {
        match assembled(detached()?, Given::default(), env.clone()) {
            Err(thv::manager::Error::InvalidVariable(invalid)) => {
                note(&format!("Warning: {invalid}; the default is used"));
                env = env.without(&invalid.variable);
            }
            made => return Ok(made?),
        }
    }
}

/// What a command line gives a manager, besides the environment.
#[derive(Debug, Default)]
struct Given {
    /// The password of encrypted secrets.
    password: Option<SecretString>,
    /// PEM: what image registries are trusted with, besides the system's certificates.
    ca_certificates: Option<Vec<u8>>,
}

impl Given {
    /// The password alone, as a command may give it.
    fn password(args: &PasswordArgs) -> Result<Self, Failure> {
        Ok(Self {
            password: password::given(args)?,
            ..Self::default()
        })
    }
}

/// The same with what the command line gives, and for what starts servers too: with no other number than was meant.
fn manager_given(given: Given) -> Result<Manager, Failure> {
    manager_with(detached()?, given)
}

/// Supervisors are processes of their own, this program again.
fn detached() -> Result<Arc<dyn Launcher>, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new(format!("cannot find the path of this program: {error}")))?;
    Ok(Arc::new(Detached::new(program, [])))
}

/// There may be many proxies on a machine of many processors.
fn proxy_threads() -> NonZeroUsize {
    const MOST: NonZeroUsize = NonZeroUsize::new(4).unwrap();
    std::thread::available_parallelism().map_or(NonZeroUsize::MIN, |processors| processors.min(MOST))
}

fn manager_with(launcher: Arc<dyn Launcher>, given: Given) -> Result<Manager, Failure> {
    Ok(assembled(launcher, given, environment())?)
}

fn environment() -> Env {
    Env::from_vars(std::env::vars_os())
}

fn assembled(launcher: Arc<dyn Launcher>, given: Given, env: Env) -> Result<Manager, thv::manager::Error> {
    let mut builder = thv::manager_from_env(env.clone())?
        .launcher_id(LAUNCHER)
        .pull_watcher(Arc::new(crate::output::progress::Pulls::default()))
        .proxy_threads(proxy_threads())
        .launcher(launcher);
    if let Some(password) = given.password {
        let dirs = Dirs::from_env(&env).map_err(|error| thv::manager::Error::Invalid {
            what: "environment".into(),
            detail: error.to_string(),
        })?;
        builder = builder.secrets(thv::secrets_in(&dirs, &env, Some(password))?);
    }
    if given.ca_certificates.is_some() {
        builder = builder.image_gate(thv::image_gate(&env, given.ca_certificates)?);
    }
    builder.build()
}
