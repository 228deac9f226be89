//! Command line and environment.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

const HELP: &str = "\
An MCP server for examples and tests.

Usage: echo-server [OPTIONS]

Transport (default: MCP_TRANSPORT, else stdio)
  --stdio                 JSON-RPC lines on stdin and stdout; exits when stdin closes
  --http                  streamable HTTP at /mcp
  --sse                   HTTP+SSE at /sse and /messages
  --port N                port (default: MCP_PORT, else 8080); 0 takes a free one; stderr says which
  --host ADDRESS          address (default: MCP_HOST; in a container every address, else 127.0.0.1)
  --stateless             streamable HTTP without sessions

Faults
  --exit-at-start CODE    exit at once
  --stderr-at-start TEXT  write a line to stderr first
  --ignore-sigterm        live on after SIGTERM
  --ignore-eof            live on after stdin is closed
  --no-answer             read requests and never answer
  --garbage               write a line that is not JSON before each answer (HTTP: instead of it)

  --version, --help

The tool `version` reports ECHO_VERSION, if that is set.
";

/// How the server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Stdio,
    StreamableHttp,
    Sse,
}

/// What the command line and the environment ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) transport: Transport,
    pub(crate) address: SocketAddr,
    pub(crate) stateless: bool,
    pub(crate) exit_at_start: Option<u8>,
    pub(crate) stderr_at_start: Option<String>,
    pub(crate) ignore_sigterm: bool,
    pub(crate) ignore_eof: bool,
    pub(crate) no_answer: bool,
    pub(crate) garbage: bool,
    pub(crate) version: String,
}

/// A command line that was understood.
#[derive(Debug)]
pub(crate) enum Parsed {
    Run(Options),
    Print(String),
}

impl Options {
    /// Flags win over variables; an empty variable counts as unset.
    pub(crate) fn parse(
        args: impl Iterator<Item = String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Parsed, String> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut transport = None;
        let mut port = None;
        let mut host = None;
        let mut options = Self {
            transport: Transport::Stdio,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            stateless: false,
            exit_at_start: None,
            stderr_at_start: None,
            ignore_sigterm: false,
            ignore_eof: false,
            no_answer: false,
            garbage: false,
            version: variable("ECHO_VERSION").unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
        };

        let mut args = args;
        while let Some(arg) = args.next() {
            let (flag, attached) = match arg.split_once('=') {
                Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
                None => (arg, None),
            };
            let mut value = || {
                attached
                    .clone()
                    .or_else(|| args.next())
                    .ok_or(format!("{flag} needs a value"))
            };
            match flag.as_str() {
                "--stdio" => transport = Some(Transport::Stdio),
                "--http" => transport = Some(Transport::StreamableHttp),
                "--sse" => transport = Some(Transport::Sse),
                "--port" => port = Some(value()?),
                "--host" => host = Some(value()?),
                "--stateless" => options.stateless = true,
                "--exit-at-start" => options.exit_at_start = Some(number(&flag, &value()?)?),
                "--stderr-at-start" => options.stderr_at_start = Some(value()?),
                "--ignore-sigterm" => options.ignore_sigterm = true,
                "--ignore-eof" => options.ignore_eof = true,
                "--no-answer" => options.no_answer = true,
                "--garbage" => options.garbage = true,
                "--version" => return Ok(Parsed::Print(format!("echo-server {}\n", options.version))),
                "--help" | "-h" => return Ok(Parsed::Print(HELP.to_owned())),
                _ => return Err(format!("unknown option {flag:?}; see --help")),
            }
        }

        options.transport = match (transport, variable("MCP_TRANSPORT").as_deref()) {
            (Some(chosen), _) => chosen,
            (None, None | Some("stdio")) => Transport::Stdio,
            (None, Some("streamable-http" | "http")) => Transport::StreamableHttp,
            (None, Some("sse")) => Transport::Sse,
            (None, Some(other)) => return Err(format!("MCP_TRANSPORT: unknown transport {other:?}")),
        };
        let port = match port.or_else(|| variable("MCP_PORT")) {
            Some(text) => number("port", &text)?,
            None => 8080,
        };
        let host = match host {
            Some(text) => address("--host", &text)?,
            None => default_host(variable("MCP_HOST").as_deref(), in_container())?,
        };
        options.address = SocketAddr::new(host, port);
        Ok(Parsed::Run(options))
    }
}

/// A published port of a container never arrives at its loopback address, so a loopback `MCP_HOST`, which is meant for
/// the side of the proxy, is not followed there.
fn default_host(variable: Option<&str>, in_container: bool) -> Result<IpAddr, String> {
    let asked = variable.map(|text| address("MCP_HOST", text)).transpose()?;
    Ok(match asked {
        Some(host) if !(in_container && host.is_loopback()) => host,
        _ if in_container => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    })
}

fn in_container() -> bool {
    std::process::id() == 1
}

fn address(what: &str, text: &str) -> Result<IpAddr, String> {
    match text {
        "localhost" => Ok(Ipv4Addr::LOCALHOST.into()),
        _ => text
            .parse()
            .map_err(|_| format!("{what}: {text:?} is not an IP address")),
    }
}

fn number<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{what}: {text:?} is not a number in range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(args: &[&str], variables: &[(&str, &str)]) -> Result<Options, String> {
        let args = args.iter().map(|&arg| arg.to_owned());
        let variable = |name: &str| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        match Options::parse(args, variable)? {
            Parsed::Run(options) => Ok(options),
            Parsed::Print(text) => Err(text),
        }
    }

    #[test]
    fn flags_win_over_variables() {
        let variables = [
            ("MCP_TRANSPORT", "sse"),
            ("MCP_PORT", "1"),
            ("MCP_HOST", "127.0.0.2"),
        ];
        let from_variables = options(&[], &variables).expect("valid");
        assert_eq!(from_variables.transport, Transport::Sse);
        assert_eq!(from_variables.address.port(), 1);
        let from_flags = options(&["--http", "--port=2", "--host", "127.0.0.3"], &variables).expect("valid");
        assert_eq!(from_flags.transport, Transport::StreamableHttp);
        assert_eq!(from_flags.address.to_string(), "127.0.0.3:2");
    }

    #[test]
    fn empty_variables_count_as_unset() {
        let parsed =
            options(&[], &[("MCP_HOST", ""), ("MCP_PORT", ""), ("MCP_TRANSPORT", "")]).expect("valid");
        assert_eq!(
            (parsed.transport, parsed.address.port()),
            (Transport::Stdio, 8080)
        );
    }

    #[test]
    fn a_loopback_host_is_not_followed_in_a_container() {
        assert_eq!(
            default_host(Some("127.0.0.1"), true).expect("valid"),
            Ipv4Addr::UNSPECIFIED
        );
        assert_eq!(
            default_host(Some("127.0.0.1"), false).expect("valid"),
            Ipv4Addr::LOCALHOST
        );
        assert_eq!(
            default_host(Some("10.0.0.7"), true).expect("valid"),
            Ipv4Addr::new(10, 0, 0, 7)
        );
        assert_eq!(default_host(None, false).expect("valid"), Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for args in [
            &["--prot", "1"][..],
            &["--port"],
            &["--port", "70000"],
            &["--exit-at-start", "256"],
        ] {
            assert!(options(args, &[]).is_err(), "{args:?}");
        }
        assert!(options(&[], &[("MCP_TRANSPORT", "carrier-pigeon")]).is_err());
    }
}
