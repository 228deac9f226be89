//! Why a server's certificate is not accepted, found in what an HTTP client failed with.

use std::error::Error;
use std::io;

use rustls::CertificateError;

/// What is wrong with the certificate, when that is why the server was not asked.
pub(crate) fn refused(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(rustls::Error::InvalidCertificate(why)) = error.downcast_ref() {
            return Some(in_words(why));
        }
        // An I/O error does not give the error within it as its source, but what that gives.
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match within {
            Some(error) => Some(error as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

fn in_words(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => "its authority is not known here".to_owned(),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another name".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_found_within_and_nothing_else_is_taken_for_it() {
        let wrapped = |error: rustls::Error| {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            io::Error::other(Box::<dyn Error + Send + Sync>::from(error))
        };
        for (why, words) in [
            (CertificateError::UnknownIssuer, "its authority is not known here"),
            (CertificateError::Expired, "it has expired"),
            (CertificateError::NotValidYet, "it is not valid yet"),
            (CertificateError::NotValidForName, "it is for another name"),
        ] {
            let error = wrapped(rustls::Error::InvalidCertificate(why));
            assert_eq!(refused(&error).as_deref(), Some(words));
        }
        // It may be another server's by the next time.
        assert_eq!(refused(&wrapped(rustls::Error::HandshakeNotComplete)), None);
        assert_eq!(refused(&io::Error::from(io::ErrorKind::ConnectionRefused)), None);
    }
}
