//! A port that is somebody's and that nobody listens at.

use std::net::Ipv4Addr;

use tokio::net::TcpSocket;

/// A port of loopback that the machine gives to nobody while this lives. Who names it may listen there, as all listeners of
/// Rust's standard library do: they share an address with those that do not listen.
#[derive(Debug)]
pub struct HeldPort {
    port: u16,
    _socket: TcpSocket,
}

impl HeldPort {
    /// One that is free.
    ///
    /// # Panics
    /// When there is none.
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("it is not bound yet");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let port = socket.local_addr().expect("it is bound").port();
        Self {
            port,
            _socket: socket,
        }
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.port
    }
}

impl Default for HeldPort {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_names_it_listens_there_and_nobody_else_is_given_it() {
        let held = HeldPort::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, held.number())).expect("it is shared");
        let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, held.number()));
        assert!(refused.is_err(), "one listens");
        drop(listener);
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, held.number())).is_err());
        TcpListener::bind((Ipv4Addr::LOCALHOST, held.number())).expect("it is shared again");
    }
}
