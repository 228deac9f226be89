//! What was found while signatures were looked at.

use crate::client::Fault;
use crate::error::short;
use crate::{Error, Reference, Result, Signer, Verdict};

/// So many reasons are told.
const TOLD: usize = 4;
/// So many signatures are looked at.
const MAX_SIGNATURES: usize = 32;
/// In so many bytes altogether.
pub(crate) const MAX_BYTES: usize = 16 << 20;

#[derive(Debug, Default)]
pub(crate) struct Findings {
    right: Option<Signer>,
    wrong: Vec<String>,
    away: Option<String>,
    seen: usize,
    bytes: usize,
}

impl Findings {
    pub(crate) fn is_right(&self) -> bool {
        self.right.is_some()
    }

    /// Whether one more may be looked at.
    pub(crate) fn next(&mut self) -> bool {
        if self.seen == MAX_SIGNATURES || self.bytes >= MAX_BYTES {
            self.add(Err("there are too many signatures to look at".into()));
            return false;
        }
        self.seen += 1;
        true
    }

    pub(crate) fn read(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// How many bytes one more may have.
    pub(crate) fn limit(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes)
    }

    pub(crate) fn add(&mut self, outcome: std::result::Result<Signer, String>) {
        match outcome {
            Ok(signer) => self.right = Some(signer),
            Err(reason) if self.wrong.len() < TOLD && !self.wrong.contains(&reason) => {
                self.wrong.push(reason);
            }
            Err(_) => {}
        }
    }

    /// A signature, or a list of them, that should be there and cannot be had.
    pub(crate) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::NotFound => self.add(Err("a signature is listed and not there".into())),
            Fault::Bad(detail) => self.add(Err(detail)),
            Fault::Unauthorized(detail) => {
                self.unreachable(format!("its signatures may not be read: {detail}"));
            }
            Fault::RateLimited { detail, .. } | Fault::Unavailable(detail) | Fault::Unusable(detail) => {
                self.unreachable(format!("its signatures cannot be asked for: {detail}"));
            }
            Fault::TimedOut(limit) => {
                self.unreachable(format!("its signatures did not come within {limit:?}"));
            }
            Fault::WrongPlatform { .. } => {}
        }
    }

    pub(crate) fn unreachable(&mut self, detail: String) {
        self.away.get_or_insert(detail);
    }

    /// One that holds is enough; one that does not is worse than none.
    pub(crate) fn verdict(self, image: &Reference) -> Result<Verdict> {
        if let Some(signer) = self.right {
            return Ok(Verdict::Verified(signer));
        }
        if !self.wrong.is_empty() {
            return Err(Error::Denied {
                reference: image.familiar(),
                detail: self
                    .wrong
                    .iter()
                    .map(|reason| short(reason))
                    .collect::<Vec<_>>()
                    .join("; "),
            });
        }
        Ok(match self.away {
            Some(detail) => Verdict::Unreachable { detail },
            None => Verdict::Absent,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn verdict(fill: impl FnOnce(&mut Findings)) -> Result<Verdict> {
        let mut findings = Findings::default();
        fill(&mut findings);
        findings.verdict(&"example/echo:1".parse().expect("a reference"))
    }

    #[test]
    fn one_that_holds_is_enough_and_one_that_does_not_is_worse_than_none() {
        let wrong = |findings: &mut Findings| findings.add(Err("another signer".into()));
        let away = |findings: &mut Findings| findings.fault(Fault::TimedOut(Duration::from_secs(10)));
        let right = |findings: &mut Findings| findings.add(Ok(Signer::default()));
        assert_eq!(verdict(|_| ()).ok(), Some(Verdict::Absent));
        let unreachable = verdict(away).expect("no error");
        assert!(matches!(&unreachable, Verdict::Unreachable { detail } if detail.contains("within 10s")));
        let denied = verdict(|findings| {
            away(findings);
            wrong(findings);
        });
        assert_eq!(denied.expect_err("it is denied").code(), "image_denied");
        let all = verdict(|findings| {
            away(findings);
            wrong(findings);
            right(findings);
        });
        assert_eq!(all.ok(), Some(Verdict::Verified(Signer::default())));
    }

    #[test]
    fn what_is_looked_at_is_bounded_in_number_and_bytes_and_more_is_denied() {
        let many = verdict(|findings| {
            let looked_at = (0..MAX_SIGNATURES * 2).filter(|_| findings.next()).count();
            assert_eq!(looked_at, MAX_SIGNATURES);
        });
        let long = verdict(|findings| {
            assert_eq!(findings.limit(), MAX_BYTES);
            findings.read(MAX_BYTES - 1);
            assert!(findings.next(), "one byte is left");
            findings.read(1);
            assert_eq!(findings.limit(), 0);
            assert!(!findings.next());
        });
        for outcome in [many, long] {
            let said = outcome.expect_err("it is denied").to_string();
            assert!(said.contains("too many signatures"), "{said}");
        }
    }

    #[test]
    fn so_many_reasons_are_told_and_none_twice() {
        let denied = verdict(|findings| {
            for at in 0..TOLD * 4 {
                findings.add(Err(format!("reason {}", at / 2)));
            }
        });
        let said = denied.expect_err("it is denied").to_string();
        assert_eq!(said.matches("reason").count(), TOLD, "{said}");
    }
}
