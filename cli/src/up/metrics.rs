//! The figures for prometheus: the smallest HTTP server that serves one page.
//!
//! Invariants: at most [`MAX_CLIENTS`] at once, each with a bounded request and a deadline; nothing but `GET /metrics` is
//! answered with anything. Not here: which figures there are (`net-io-real`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net_io_real::Node;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::error::{Code, Failure};

/// Clients served at once; others wait to be accepted.
const MAX_CLIENTS: usize = 16;
/// No request is longer.
const MAX_REQUEST: usize = 8 << 10;
/// How long a client may take for its request and for the answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pause after a connection that could not be accepted, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A place where figures are fetched.
pub struct Metrics {
    listener: TcpListener,
    address: SocketAddr,
}

impl Metrics {
    pub async fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok(Self { listener, address })
        };
        bound.await.map_err(|error: std::io::Error| {
            let code = Failure::stdio("", &error).code;
            let code = if code == Code::Io { Code::Start } else { code };
            Failure::new(code, format!("cannot serve metrics at {address}: {error}"))
                .next("net up --metrics :0      # takes any free port of loopback and says which")
        })
    }

    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever.
    pub async fn serve(self, node: Node) {
        let permits = Arc::new(Semaphore::new(MAX_CLIENTS));
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((client, _)) => {
                    let node = node.clone();
                    tokio::spawn(async move {
                        // A client that fails or is late is its own trouble.
                        let _ = tokio::time::timeout(DEADLINE, answer(client, &node)).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a client of the metrics could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn answer(mut client: TcpStream, node: &Node) -> std::io::Result<()> {
    let mut request = vec![0; MAX_REQUEST];
    let mut len = 0;
    while !request[..len].windows(4).any(|end| end == b"\r\n\r\n") {
        let read = client.read(&mut request[len..]).await?;
        len += read;
        if read == 0 {
            // Cut off, or longer than any request for this page.
            break;
        }
    }
    let response = respond(&request[..len], || {
        let mut text = String::new();
        // Writing to a string fails only where a metric is broken, which its test finds.
        let _ = prometheus_client::encoding::text::encode(&mut text, &node.metrics());
        text
    });
    client.write_all(response.as_bytes()).await?;
    client.shutdown().await
}

fn respond(request: &[u8], page: impl FnOnce() -> String) -> String {
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, target) {
        (b"GET", b"/metrics" | b"/") => (
            "200 OK",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            page(),
        ),
        (b"GET", _) => ("404 Not Found", "text/plain", "figures are at /metrics\n".to_owned()),
        (_, _) => ("400 Bad Request", "text/plain", "GET /metrics\n".to_owned()),
    };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_page_is_served() {
        let page = || "figures".to_owned();
        let told = respond(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", page);
        assert!(
            told.starts_with("HTTP/1.1 200 ") && told.ends_with("\r\n\r\nfigures"),
            "{told}"
        );
        assert!(told.contains("content-length: 7\r\n"), "{told}");
        assert!(respond(b"GET /secret HTTP/1.1\r\n\r\n", page).starts_with("HTTP/1.1 404 "));
        for request in [&b"POST /metrics HTTP/1.1\r\n\r\n"[..], b"", b"\r\n\r\n", &[0xff; 100]] {
            assert!(respond(request, page).starts_with("HTTP/1.1 400 "));
        }
    }
}
