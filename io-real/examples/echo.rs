//! Two nodes in one program: the first answers every message with itself, the second counts on it.
//!
//! Run it with `cargo run -p net-io-real --example echo`.

use net_io_real::{Node, StreamOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Node::builder().address(loopback).bind().await?;
    let ticket = server.ticket();
    println!("serving as {ticket}");
    let serving = tokio::spawn(async move {
        while let Some(session) = server.accept().await {
            while let Some(mut stream) = session.accept_stream().await {
                while let Ok(Some(message)) = stream.recv().await {
                    if stream.send(&message).await.is_err() {
                        break;
                    }
                }
            }
        }
    });

    let client = Node::builder().address(loopback).bind().await?;
    let session = client.connect(&ticket).await?;
    let mut stream = session.open(StreamOptions::default())?;
    for word in ["to", "whom", "it", "may", "concern"] {
        stream.send(word.as_bytes()).await?;
        if let Some(answer) = stream.recv().await? {
            println!("{}", String::from_utf8_lossy(&answer));
        }
    }
    println!("round trip {:?}", session.echo().await?);
    stream.finish().await?;
    client.close().await;
    serving.abort();
    Ok(())
}
