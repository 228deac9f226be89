//! What the helper is started with.

use crate::rules::Rules;

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Beside the workload.
    Inner,
    /// On the network that leads out.
    Outer,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Options {
    /// Which of the two it is.
    pub(crate) side: Side,
    /// What may be reached.
    pub(crate) rules: Rules,
    /// The workload's ports.
    pub(crate) ingress: Vec<Ingress>,
}

/// A port of the workload; the outer helper has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ingress {
    /// Its number.
    pub(crate) number: u16,
    /// Whether others than the engine's host may connect.
    pub(crate) open: bool,
}

impl Options {
    /// Reads them; what is not known is an error.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let side = match args.next().as_deref() {
            Some("inner") => Side::Inner,
            Some("outer") => Side::Outer,
            _ => return Err("say inner or outer".to_owned()),
        };
        let mut options = Self {
            side,
            rules: Rules::default(),
            ingress: Vec::new(),
        };
        while let Some(name) = args.next() {
            match name.as_str() {
                "--allow-all" => options.rules.everything = true,
                "--allow-gateway" => options.rules.gateway = true,
                _ => {
                    let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
                    options
                        .take(&name, &value)
                        .ok_or_else(|| format!("{name} {value} is not understood"))?;
                }
            }
        }
        Ok(options)
    }

    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "--deny" => self.rules.denied.push(value.parse().ok()?),
            "--deny-in" => self.rules.host_table = Some(value.into()),
            "--allow-host" => self.rules.hosts.push(allowed_host(value)?),
            "--allow-port" => self.rules.ports.push(value.parse().ok()?),
            "--ingress" | "--open-ingress" => self.ingress.push(Ingress {
                number: value.parse().ok()?,
                open: name == "--open-ingress",
            }),
            _ => return None,
        }
        Some(())
    }
}

/// A name as it is compared; `*.` before a domain means the same as a dot. A star elsewhere would match nothing.
fn allowed_host(text: &str) -> Option<String> {
    let host = text.trim_end_matches('.').to_ascii_lowercase();
    let host = match host.strip_prefix("*.") {
        Some(domain) => format!(".{domain}"),
        None => host,
    };
    (!host.is_empty() && !host.contains('*')).then_some(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let options = parsed("outer --allow-host .A.example --allow-port 443 --ingress 8080").unwrap();
        assert_eq!(options.rules.hosts, [".a.example"]);
        assert_eq!(options.ingress[0].number, 8080);
        let options = parsed("outer --allow-host *.B.example.").unwrap();
        assert_eq!(options.rules.hosts, [".b.example"]);
        for bad in [
            "",
            "outer --allow-host *",
            "outer --allow-host a.*.example",
            "outer --allow-host .",
            "other",
            "outer --allow-host",
            "outer --allow-hosts x",
            "inner --ingress x",
            "outer --deny-in",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
