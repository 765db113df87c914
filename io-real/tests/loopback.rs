//! Two nodes over real UDP on loopback: what users do with sessions and streams.

mod common;

use std::net::UdpSocket;

use common::{builder, guard, pair, pair_of};
use futures_util::SinkExt as _;
use net_io_real::{
    CloseCode, CloseReason, ConnectError, NetworkKey, Node, RecvError, Reliability, SendError, SessionConfig,
    SessionError, StateDir, StreamOptions, Suite,
};

fn key(byte: u8) -> NetworkKey {
    NetworkKey::from_bytes(net_io_real::api::Secret([byte; 32]))
}

/// Bytes in which no piece repeats, so that a misplaced one shows.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

#[tokio::test]
async fn messages_go_both_ways_and_finish() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        far.send(b"answer").await.unwrap();
        let (send, mut recv) = near.split();
        assert_eq!(recv.recv().await.unwrap().as_deref(), Some(&b"answer"[..]));
        send.send(b"").await.unwrap();
        assert_eq!(
            far.recv().await.unwrap().as_deref(),
            Some(&b""[..]),
            "an empty message is a message"
        );
        send.finish().await.unwrap();
        assert_eq!(far.recv().await.unwrap(), None);
        far.finish().await.unwrap();
        assert_eq!(recv.recv().await.unwrap(), None);
        assert_eq!(send.send(b"more").await, Err(SendError::Finished));
    })
    .await;
}

#[tokio::test]
async fn echo_measures_a_round_trip_and_stats_tell_of_it() {
    guard(async {
        let pair = pair().await;
        let rtt = pair.ab.echo().await.unwrap();
        assert!(rtt > std::time::Duration::ZERO);
        let stats = pair.ab.stats().unwrap();
        assert_eq!(stats.peer, pair.b.entity());
        assert!(stats.sent > 0 && stats.received > 0);
    })
    .await;
}

#[tokio::test]
async fn aes_is_used_where_both_want_it() {
    guard(async {
        for (first, second, expected) in [(true, true, Suite::Aes256Gcm), (true, false, Suite::ChaChaPoly)] {
            let pair = pair_of(builder().aes(first), builder().aes(second)).await;
            let (near, mut far) = pair.stream(StreamOptions::default()).await;
            near.send(&pattern(100_000)).await.unwrap();
            assert_eq!(far.recv().await.unwrap().as_deref(), Some(&pattern(100_000)[..]));
            assert_eq!(pair.ab.stats().unwrap().suite, expected);
            pair.ab.rekey().await.unwrap();
            assert_eq!(pair.ab.stats().unwrap().suite, expected, "after a rekey too");
        }
    })
    .await;
}

#[tokio::test]
async fn keys_are_replaced_on_demand_while_messages_flow() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        pair.ab.rekey().await.unwrap();
        near.send(b"under the new key").await.unwrap();
        assert_eq!(far.recv().await.unwrap().as_deref(), Some(&b"under the new key"[..]));
        assert_eq!(pair.ab.stats().unwrap().rekeys, 1);
    })
    .await;
}

#[tokio::test]
async fn a_message_of_16_mib_arrives_whole() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let message = pattern(16 << 20);
        let (sent, received) = tokio::join!(near.send(&message), far.recv());
        sent.unwrap();
        assert!(received.unwrap().unwrap() == message, "16 MiB differ");
    })
    .await;
}

/// Large enough that turns are shared out, and enough sessions that every lane has some.
#[tokio::test]
async fn nodes_of_several_lanes_exchange_bulk_over_several_sessions() {
    guard(async {
        for lanes in [2, 4] {
            let hub = builder().lanes(lanes).bind().await.unwrap();
            let ticket = hub.ticket();
            let peers = (0..4_u8).map(|at| {
                let (ticket, hub) = (&ticket, &hub);
                async move {
                    // Some of them have several lanes as well.
                    let peer = builder().lanes(1 << (at % 2)).aes(at > 1).bind().await.unwrap();
                    let session = peer.connect(ticket).await.unwrap();
                    let near = session.open(StreamOptions::default()).unwrap();
                    near.send(&[at]).await.unwrap();
                    let accepted = hub.accept().await.unwrap();
                    let mut far = accepted.accept_stream().await.unwrap();
                    let hello = far.recv().await.unwrap().unwrap();
                    (peer, session, near, accepted, far, hello[0])
                }
            });
            let mut links = Vec::new();
            for peer in peers {
                links.push(peer.await);
            }
            let bulk = links.iter_mut().map(|(_, session, near, _, far, at)| async move {
                let there = pattern(3_000_000 + usize::from(*at));
                let back = pattern(2_000_000 + usize::from(*at));
                let (sent, received) = tokio::join!(near.send(&there), far.recv());
                sent.unwrap();
                assert!(received.unwrap().unwrap() == there, "what session {at} sent differs");
                session.rekey().await.unwrap();
                let (sent, received) = tokio::join!(far.send(&back), near.recv());
                sent.unwrap();
                assert!(received.unwrap().unwrap() == back, "what session {at} got differs");
            });
            let bulk: Vec<_> = bulk.collect();
            let Ok([a, b, c, d]) = <[_; 4]>::try_from(bulk) else {
                panic!("there are four peers");
            };
            tokio::join!(a, b, c, d);
            for (peer, ..) in &links {
                assert!(peer.close().await);
            }
            assert_eq!(hub.drops().get(net_io_real::api::DropReason::AeadFailure), 0);
        }
    })
    .await;
}

#[tokio::test]
async fn a_number_of_lanes_that_is_no_power_of_two_is_refused() {
    for lanes in [0, 3, 32] {
        let refused = builder().lanes(lanes).bind().await.unwrap_err();
        assert!(refused.to_string().contains("use 1, 2, 4, 8 or 16"), "{refused}");
    }
}

#[tokio::test]
async fn a_large_message_can_be_read_piece_by_piece() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let message = pattern(5 << 20);
        let read = async {
            let (mut all, mut buffer) = (Vec::new(), vec![0; 10_000]);
            loop {
                let piece = far.recv_part(&mut buffer).await.unwrap().unwrap();
                all.extend_from_slice(&buffer[..piece.len]);
                if piece.end {
                    return all;
                }
            }
        };
        let (sent, received) = tokio::join!(near.send(&message), read);
        sent.unwrap();
        assert!(received == message, "5 MiB differ");
    })
    .await;
}

#[tokio::test]
async fn many_small_messages_keep_their_order() {
    const COUNT: u64 = 100_000;
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let send = async {
            for number in 0..COUNT {
                near.send(&number.to_le_bytes()).await.unwrap();
            }
            near.finish().await.unwrap();
        };
        let receive = async {
            let mut buffer = [0; 8];
            for number in 0..COUNT {
                assert_eq!(far.recv_into(&mut buffer).await.unwrap(), Some(8));
                assert_eq!(u64::from_le_bytes(buffer), number);
            }
            assert_eq!(far.recv_into(&mut buffer).await.unwrap(), None);
        };
        tokio::join!(send, receive);
    })
    .await;
}

#[tokio::test]
async fn batches_are_cut_into_messages() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let bytes = pattern(3_000_007);
        let send = async {
            near.send_chunks(&bytes, 1_000).await.unwrap();
            near.send_many(&[b"one", b"", b"three"]).await.unwrap();
        };
        let receive = async {
            for chunk in bytes.chunks(1_000) {
                assert!(far.recv().await.unwrap().unwrap() == chunk);
            }
            for message in [&b"one"[..], b"", b"three"] {
                assert_eq!(far.recv().await.unwrap().unwrap(), message);
            }
        };
        tokio::join!(send, receive);
    })
    .await;
}

#[tokio::test]
async fn every_reliability_delivers_on_a_clean_path() {
    guard(async {
        let pair = pair().await;
        for reliability in Reliability::ALL {
            let options = StreamOptions {
                reliability,
                ..StreamOptions::default()
            };
            let (near, mut far) = pair.stream(options).await;
            assert_eq!(far.reliability(), reliability);
            near.send(b"there").await.unwrap();
            assert_eq!(far.recv().await.unwrap().as_deref(), Some(&b"there"[..]));
            far.send(b"back").await.unwrap();
            let mut near = near;
            assert_eq!(near.recv().await.unwrap().as_deref(), Some(&b"back"[..]));
            near.finish().await.unwrap();
            assert_eq!(far.recv().await.unwrap(), None);
        }
    })
    .await;
}

#[tokio::test]
async fn large_unordered_messages_arrive_whole() {
    guard(async {
        let pair = pair().await;
        let options = StreamOptions {
            reliability: Reliability::ReliableUnordered,
            ..StreamOptions::default()
        };
        let (near, mut far) = pair.stream(options).await;
        let messages: Vec<Vec<u8>> = (1..6).map(|n| pattern(n * 700_000)).collect();
        let send = async {
            for message in &messages {
                near.send(message).await.unwrap();
            }
        };
        let receive = async {
            let mut got = Vec::new();
            while got.len() < messages.len() {
                got.push(far.recv().await.unwrap().unwrap());
            }
            got.sort_by_key(bytes::Bytes::len);
            assert!(got.iter().zip(&messages).all(|(a, b)| a == b), "messages differ");
        };
        tokio::join!(send, receive);
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_its_sender_and_nobody_else() {
    guard(async {
        let pair = pair().await;
        let (slow, mut slow_far) = pair.stream(StreamOptions::default()).await;
        let message = pattern(1_000);
        let mut taken = 0_u64;
        // Room may come back while what was sent is still being acknowledged: the end is reached when a whole echo
        // goes by without any.
        loop {
            match slow.try_send(&message) {
                Ok(()) => taken += 1,
                Err(SendError::Full) => {
                    pair.ab.echo().await.unwrap();
                    if slow.try_send(&message) == Err(SendError::Full) {
                        break;
                    }
                    taken += 1;
                }
                Err(error) => panic!("{error}"),
            }
            assert!(taken < 100_000, "nothing stops the sender");
        }
        let (other, mut other_far) = pair.stream(StreamOptions::default()).await;
        other.send(b"still moving").await.unwrap();
        assert_eq!(other_far.recv().await.unwrap().as_deref(), Some(&b"still moving"[..]));
        let mut waiting = std::pin::pin!(slow.send(b"last"));
        assert!(
            futures_util::poll!(waiting.as_mut()).is_pending(),
            "backpressure is awaited"
        );
        let read = async {
            for _ in 0..taken {
                assert!(slow_far.recv().await.unwrap().unwrap() == message);
            }
            assert_eq!(slow_far.recv().await.unwrap().as_deref(), Some(&b"last"[..]));
        };
        let (sent, ()) = tokio::join!(waiting, read);
        sent.unwrap();
    })
    .await;
}

#[tokio::test]
async fn dropped_futures_lose_and_duplicate_nothing() {
    guard(async {
        let config = SessionConfig {
            send_buffer: 20_000,
            ..SessionConfig::default()
        };
        let pair = pair_of(builder().config(config), builder()).await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let mut sent = 0_u32;
        let mut received = 0_u32;
        while received < 3_000 {
            // Each future is polled once and dropped: it took the whole message, or nothing.
            let message = [&sent.to_le_bytes()[..], &[7; 1_000]].concat();
            if let std::task::Poll::Ready(result) = futures_util::poll!(std::pin::pin!(near.send(&message))) {
                result.unwrap();
                sent += 1;
            }
            match futures_util::poll!(std::pin::pin!(far.recv())) {
                std::task::Poll::Ready(message) => {
                    assert_eq!(message.unwrap().unwrap()[..4], received.to_le_bytes());
                    received += 1;
                }
                std::task::Poll::Pending => tokio::task::yield_now().await,
            }
        }
    })
    .await;
}

#[tokio::test]
async fn reset_and_stop_tell_the_other_side_why() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        near.reset(42);
        assert_eq!(far.recv().await, Err(RecvError::Reset(42)));
        let (near, far) = pair.stream(StreamOptions::default()).await;
        let (_send, recv) = far.split();
        drop(recv);
        let stopped = async {
            loop {
                if let Err(error) = near.send(&[0; 1_000]).await {
                    return error;
                }
            }
        };
        assert_eq!(stopped.await, SendError::Stopped(0));
    })
    .await;
}

#[tokio::test]
async fn a_dropped_sender_finishes_its_stream() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        near.send(b"last words").await.unwrap();
        drop(near);
        assert_eq!(far.recv().await.unwrap().as_deref(), Some(&b"last words"[..]));
        assert_eq!(far.recv().await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn closing_tells_the_peer_why() {
    guard(async {
        let pair = pair().await;
        let (_near, mut far) = pair.stream(StreamOptions::default()).await;
        pair.ab.close(7, "done here").await;
        let why = pair.ba.closed().await;
        assert_eq!(
            why,
            CloseReason::Remote {
                code: CloseCode::Application(7),
                text: "done here".into()
            }
        );
        let expected = SessionError::Closed {
            peer: pair.a.entity(),
            why,
        };
        assert_eq!(far.recv().await, Err(RecvError::Session(expected.clone())));
        assert_eq!(pair.ba.open(StreamOptions::default()).unwrap_err(), expected);
        assert!(pair.ba.accept_stream().await.is_none());
    })
    .await;
}

#[tokio::test]
async fn a_session_nobody_holds_is_closed_once_everything_arrived() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let message = pattern(3 << 20);
        let write = async {
            near.send(&message).await.unwrap();
            drop((near, pair.ab));
        };
        let read = async {
            assert!(far.recv().await.unwrap().unwrap() == message, "3 MiB differ");
            assert_eq!(far.recv().await.unwrap(), None);
        };
        tokio::join!(write, read);
        drop(far);
        let why = pair.ba.closed().await;
        assert!(
            matches!(
                why,
                CloseReason::Remote {
                    code: CloseCode::Application(0) | CloseCode::NoError,
                    ..
                }
            ),
            "{why:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_node_closes_after_everything_it_sent_was_confirmed() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let message = pattern(2 << 20);
        near.send(&message).await.unwrap();
        let close = pair.a.close();
        let read = async {
            assert!(far.recv().await.unwrap().unwrap() == message, "2 MiB differ");
            assert_eq!(far.recv().await.unwrap(), None);
            pair.ba.closed().await
        };
        let (confirmed, why) = tokio::join!(close, read);
        assert!(confirmed);
        assert!(
            matches!(
                why,
                CloseReason::Remote {
                    code: CloseCode::Shutdown,
                    ..
                }
            ),
            "{why:?}"
        );
        assert!(pair.a.accept().await.is_none());
        assert_eq!(
            pair.a.connect(&pair.b.ticket()).await.unwrap_err(),
            ConnectError::NodeClosed
        );
    })
    .await;
}

#[tokio::test]
async fn streams_and_sinks_carry_messages() {
    guard(async {
        let pair = pair().await;
        let (near, far) = pair.stream(StreamOptions::default()).await;
        let (mut send, _recv) = near.split();
        let write = async {
            for number in 0..1_000_u32 {
                send.feed(number.to_be_bytes()).await.unwrap();
            }
            futures_util::SinkExt::<[u8; 4]>::close(&mut send).await.unwrap();
        };
        let read = async {
            let mut far = std::pin::pin!(far);
            let mut count = 0_u32;
            while let Some(message) = std::future::poll_fn(|cx| futures_core::Stream::poll_next(far.as_mut(), cx)).await
            {
                assert_eq!(message.unwrap()[..], count.to_be_bytes());
                count += 1;
            }
            count
        };
        let ((), count) = tokio::join!(write, read);
        assert_eq!(count, 1_000);
    })
    .await;
}

#[tokio::test]
async fn a_stream_survives_a_new_socket_in_the_middle() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let message = pattern(1 << 20);
        let moved = pair.ba.moved(0);
        let write = async {
            near.send(&message).await.unwrap();
            let before = pair.a.local_addr();
            let after = pair.a.rebind(common::loopback()).unwrap();
            assert_ne!(before, after);
            for _ in 0..8 {
                near.send(&message).await.unwrap();
            }
            near.finish().await.unwrap();
            after
        };
        let read = async {
            for _ in 0..9 {
                assert!(far.recv().await.unwrap().unwrap() == message, "1 MiB differs");
            }
            assert_eq!(far.recv().await.unwrap(), None);
        };
        let (after, (), moves) = tokio::join!(write, read, moved);
        assert!(moves.unwrap() >= 1);
        assert_eq!(pair.ba.address(), Some(after));
    })
    .await;
}

#[tokio::test]
async fn only_those_allowed_hold_sessions() {
    guard(async {
        let guest = builder().bind().await.unwrap();
        let stranger = builder().bind().await.unwrap();
        let host = builder().allow([guest.entity()]).bind().await.unwrap();
        let _session = guest.connect(&host.ticket()).await.unwrap();
        assert_eq!(host.accept().await.unwrap().peer(), guest.entity());
        match stranger.connect(&host.ticket()).await {
            Ok(session) => {
                let why = session.closed().await;
                assert!(
                    matches!(
                        why,
                        CloseReason::Remote {
                            code: CloseCode::NotAllowed,
                            ..
                        }
                    ),
                    "{why:?}"
                );
            }
            Err(error) => assert_eq!(error.code(), "session.not_allowed"),
        }
    })
    .await;
}

#[tokio::test]
async fn a_ticket_of_another_network_is_refused_before_anything_is_sent() {
    guard(async {
        let ours = builder().network(key(1)).bind().await.unwrap();
        let theirs = builder().network(key(2)).bind().await.unwrap();
        assert_eq!(
            ours.connect(&theirs.ticket()).await.unwrap_err(),
            ConnectError::OtherNetwork
        );
        assert!(theirs.ticket().network_key().is_none());
        assert_eq!(theirs.secret_ticket().network_key(), Some(&[2; 32]));
    })
    .await;
}

#[tokio::test]
async fn a_wrong_network_key_is_met_with_silence_and_counted() {
    guard(async {
        let config = SessionConfig {
            connect_timeout: net_io_real::api::Duration::from_millis(600),
            ..SessionConfig::default()
        };
        let ours = builder().network(key(1)).config(config).bind().await.unwrap();
        let theirs = builder().network(key(2)).bind().await.unwrap();
        let error = ours.dial(theirs.entity(), &[theirs.local_addr()]).await.unwrap_err();
        assert_eq!(error.code(), "connect.silent");
        assert!(
            theirs.drops().get(net_io_real::api::DropReason::BadMac) > 0,
            "{:?}",
            theirs.drops()
        );
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_port_where_nobody_listens_is_told_apart_from_silence() {
    guard(async {
        let config = SessionConfig {
            connect_timeout: net_io_real::api::Duration::from_millis(1_500),
            ..SessionConfig::default()
        };
        let node = builder().config(config).bind().await.unwrap();
        let other = builder().bind().await.unwrap();
        let (ticket, _) = (other.ticket(), other.close().await);
        assert_eq!(node.connect(&ticket).await.unwrap_err().code(), "connect.unreachable");
    })
    .await;
}

#[tokio::test]
async fn garbage_disturbs_nobody() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bytes = pattern(1_452);
        for len in [0, 1, 15, 63, 64, 80, 200, 1_452] {
            noise.send_to(&bytes[..len], pair.b.local_addr()).unwrap();
        }
        near.send(b"after the noise").await.unwrap();
        assert_eq!(far.recv().await.unwrap().as_deref(), Some(&b"after the noise"[..]));
        let dropped: u64 = pair.b.drops().nonzero().map(|(_, count)| count).sum();
        assert!(dropped >= 6, "{:?}", pair.b.drops());
    })
    .await;
}

#[tokio::test]
async fn a_state_directory_keeps_identity_and_port_and_is_free_after_close() {
    guard(async {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let node = builder().state_dir(&path).bind().await.unwrap();
        let (entity, address) = (node.entity(), node.local_addr());
        assert_eq!(
            Node::builder().state_dir(&path).bind().await.unwrap_err().code(),
            "state.locked"
        );
        node.close().await;
        assert_eq!(StateDir::open(&path).unwrap().port(), address.port());
        let again = builder().state_dir(&path).bind().await.unwrap();
        assert_eq!((again.entity(), again.local_addr()), (entity, address));
    })
    .await;
}

#[tokio::test]
async fn a_restarted_peer_is_believed_at_once() {
    guard(async {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("state");
        let server = builder().bind().await.unwrap();
        for _ in 0..3 {
            let client = builder().state_dir(&path).bind().await.unwrap();
            let session = client.connect(&server.ticket()).await.unwrap();
            session.echo().await.unwrap();
            client.close().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_of_its_own() {
    guard(async {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = Node::builder()
            .address(taken.local_addr().unwrap())
            .bind()
            .await
            .unwrap_err();
        assert_eq!(error.code(), "bind.in_use");
    })
    .await;
}

#[tokio::test]
async fn ipv6_and_ipv4_reach_one_dual_stack_socket() {
    guard(async {
        let Ok(server) = Node::builder().address("[::]:0".parse().unwrap()).bind().await else {
            return; // A host without IPv6.
        };
        let port = server.local_addr().port();
        let v4 = builder().bind().await.unwrap();
        let session = v4
            .dial(server.entity(), &[([127, 0, 0, 1], port).into()])
            .await
            .unwrap();
        session.echo().await.unwrap();
        assert!(
            server.accept().await.unwrap().address().unwrap().is_ipv4(),
            "IPv4 stays IPv4"
        );
        let Ok(v6) = Node::builder().address("[::1]:0".parse().unwrap()).bind().await else {
            return;
        };
        let loopback = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
        v6.dial(server.entity(), &[loopback])
            .await
            .unwrap()
            .echo()
            .await
            .unwrap();
    })
    .await;
}

#[tokio::test]
async fn metrics_tell_of_sessions_and_drops() {
    guard(async {
        let pair = pair().await;
        pair.ab.echo().await.unwrap();
        UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .send_to(b"noise", pair.a.local_addr())
            .unwrap();
        pair.ab.echo().await.unwrap();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &pair.a.metrics()).unwrap();
        for line in [
            "net_sessions 1",
            "net_sessions_opened_total 1",
            "net_dropped_total{reason=\"garbage_magic\"} 1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("net_rtt_seconds_bucket"), "{text}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_streams_share_a_session_across_threads() {
    guard(async {
        let pair = pair().await;
        let server = tokio::spawn({
            let session = pair.ba.clone();
            async move {
                while let Some(mut stream) = session.accept_stream().await {
                    tokio::spawn(async move {
                        while let Ok(Some(message)) = stream.recv().await {
                            stream.send(&message).await.unwrap();
                        }
                    });
                }
            }
        });
        let clients: Vec<_> = (0..50_u32)
            .map(|client| {
                let session = pair.ab.clone();
                tokio::spawn(async move {
                    let mut stream = session.open(StreamOptions::default()).unwrap();
                    for number in 0..100_u32 {
                        let message = [client.to_le_bytes(), number.to_le_bytes()].concat();
                        stream.send(&message).await.unwrap();
                        assert!(stream.recv().await.unwrap().unwrap() == message);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        pair.a.close().await;
        server.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_no_identity_is_refused() {
    guard(async {
        let node = builder().bind().await.unwrap();
        let nobody = net_io_real::EntityId([0; 32]);
        let error = node.dial(nobody, &[([127, 0, 0, 1], 9).into()]).await.unwrap_err();
        assert_eq!(error.code(), "refused.bad_identity");
        let error = node.dial(node.entity(), &[node.local_addr()]).await.unwrap_err();
        assert_eq!(error.code(), "refused.own_identity");
    })
    .await;
}

#[tokio::test]
async fn who_is_no_longer_allowed_loses_the_session() {
    guard(async {
        let pair = pair().await;
        pair.b.allow(Some(&[]));
        let why = pair.ab.closed().await;
        assert!(
            matches!(
                why,
                CloseReason::Remote {
                    code: CloseCode::NotAllowed,
                    ..
                }
            ),
            "{why:?}"
        );
        pair.b.allow(None);
        pair.a.connect(&pair.b.ticket()).await.unwrap().echo().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn many_nodes_connect_at_once() {
    guard(async {
        let server = builder().bind().await.unwrap();
        let ticket = server.ticket();
        let clients: Vec<_> = (0..40)
            .map(|_| {
                let ticket = ticket.clone();
                tokio::spawn(async move {
                    let client = builder().bind().await.unwrap();
                    let session = client.connect(&ticket).await.unwrap();
                    session.echo().await.unwrap();
                    client.close().await;
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_copy_of_a_running_identity_is_told_which_one_is_older() {
    guard(async {
        let parent = tempfile::tempdir().unwrap();
        let (path, copy) = (parent.path().join("state"), parent.path().join("copy"));
        drop(StateDir::create(&path, &net_io_real::tokio::OsEntropy).unwrap());
        drop(StateDir::create(&copy, &net_io_real::tokio::OsEntropy).unwrap());
        std::fs::copy(path.join("identity.key"), copy.join("identity.key")).unwrap();
        let older = builder().state_dir(&path).bind().await.unwrap();
        let newer = builder().state_dir(&copy).bind().await.unwrap();
        assert_eq!(older.entity(), newer.entity());
        let server = builder().bind().await.unwrap();
        newer.connect(&server.ticket()).await.unwrap().echo().await.unwrap();
        let ticket = server.ticket();
        let (_, told) = tokio::join!(older.connect(&ticket), older.until_rolled_back());
        assert_eq!(told.map(|told| told.peer), Some(server.entity()));
        assert!(newer.rolled_back().is_none());
    })
    .await;
}

#[tokio::test]
async fn messages_keep_their_limits() {
    guard(async {
        let pair = pair().await;
        let (near, mut far) = pair.stream(StreamOptions::default()).await;
        let limit = net_io_real::api::MAX_MESSAGE as usize;
        let error = near.send(&vec![0; limit + 1]).await.unwrap_err();
        assert_eq!(error, SendError::TooLarge { len: limit + 1, limit });
        near.send(b"twelve bytes").await.unwrap();
        assert_eq!(
            far.recv_into(&mut [0; 4]).await,
            Err(RecvError::BufferTooSmall { len: 12 })
        );
        assert_eq!(
            far.recv().await.unwrap().as_deref(),
            Some(&b"twelve bytes"[..]),
            "it stays to be read"
        );
        let options = StreamOptions {
            reliability: Reliability::FireAndForget,
            ..StreamOptions::default()
        };
        let loose = pair.ab.open(options).unwrap();
        assert_eq!(loose.send(&[0; 5_000]).await.unwrap_err().code(), "send.too_large");
    })
    .await;
}
