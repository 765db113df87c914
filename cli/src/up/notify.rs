//! Telling systemd how the service stands (sd_notify(3)): one datagram per word to the socket that `NOTIFY_SOCKET` names.
//!
//! Invariants: without `NOTIFY_SOCKET` nothing happens; a word that cannot be said stops nothing.
//! Not here: when to say what (`mod.rs`).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, where there is one.
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// As the environment says.
    ///
    /// # Errors
    /// When `NOTIFY_SOCKET` is set and cannot be used: the manager would wait for a word that never comes.
    pub fn from_env() -> io::Result<Self> {
        let to = match std::env::var_os("NOTIFY_SOCKET") {
            Some(name) if !name.is_empty() => Some((UnixDatagram::unbound()?, address(&name)?)),
            Some(_) | None => None,
        };
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        // The watchdog may be meant for another process of the service.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours && to.is_some());
        Ok(Self {
            to,
            watchdog: watchdog.filter(|&us| us > 0).map(Duration::from_micros),
        })
    }

    /// How often to say that we live: twice within the time asked for, as sd_watchdog_enabled(3) recommends.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        Some((self.watchdog? / 2).max(Duration::from_millis(1)))
    }

    /// Says one or more `NAME=VALUE` lines.
    pub fn say(&self, words: &str) {
        if let Some((socket, to)) = &self.to
            && let Err(error) = socket.send_to_addr(words.as_bytes(), to)
        {
            tracing::warn!(%error, words, "the service manager was not told");
        }
    }
}

/// A path, or a name in Linux's abstract space where it begins with `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', rest @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "NOTIFY_SOCKET is neither a path nor an abstract name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_or_abstract() {
        assert!(
            address(OsStr::new("/run/notify"))
                .expect("a path")
                .as_pathname()
                .is_some()
        );
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt as _;
            let abstract_name = address(OsStr::new("@net")).expect("a name");
            assert_eq!(abstract_name.as_abstract_name(), Some(&b"net"[..]));
        }
        for name in ["relative", "vsock:2:9"] {
            assert!(address(OsStr::new(name)).is_err(), "{name}");
        }
    }
}
