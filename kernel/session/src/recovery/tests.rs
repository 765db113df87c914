//! Stories about one sender: each tells it what was sent and acknowledged and expects what follows.

use alloc::vec;
use alloc::vec::Vec;

use super::*;

const DATA: SentInfo = SentInfo {
    bytes: 1_000,
    ack_eliciting: true,
    in_flight: true,
    mtu_probe: false,
};
const PROBE: SentInfo = SentInfo {
    bytes: 1_000,
    ack_eliciting: true,
    in_flight: true,
    mtu_probe: true,
};
const ACK_ONLY: SentInfo = SentInfo {
    bytes: 100,
    ack_eliciting: false,
    in_flight: false,
    mtu_probe: false,
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + ms(millis)
}

/// A sender and what came back from it.
struct Rig {
    recovery: Recovery<u64>,
    acked: Vec<u64>,
    lost: Vec<u64>,
}

impl Rig {
    fn new(config: RecoveryConfig) -> Self {
        Self {
            recovery: Recovery::new(&config, at(0)),
            acked: vec![],
            lost: vec![],
        }
    }

    /// No ECN, so that plain acks are valid; round trip known to be 100 ms from packet 0.
    fn warm() -> Self {
        let mut rig = Self::new(plain());
        rig.send(0, 0, DATA);
        rig.ack(100, &[(0, 0)]);
        rig.acked.clear();
        rig
    }

    fn send(&mut self, millis: u64, number: u64, info: SentInfo) {
        self.recovery.on_sent(at(millis), number, info, number);
    }

    fn send_all(&mut self, millis: u64, numbers: core::ops::RangeInclusive<u64>) {
        for number in numbers {
            self.send(millis, number, DATA);
        }
    }

    fn try_ack(
        &mut self,
        millis: u64,
        ranges: &[(u64, u64)],
        ecn: Option<(u64, u64, u64)>,
    ) -> Result<AckOutcome, AckError> {
        let Self { recovery, acked, lost } = self;
        recovery.on_ack(
            at(millis),
            ranges.iter().copied(),
            Duration::ZERO,
            ecn,
            &mut |number, _, content| {
                assert_eq!(number, content);
                acked.push(content);
            },
            &mut |number, _, content| {
                assert_eq!(number, content);
                lost.push(content);
            },
        )
    }

    fn ack(&mut self, millis: u64, ranges: &[(u64, u64)]) -> AckOutcome {
        self.try_ack(millis, ranges, None).unwrap()
    }

    fn timeout(&mut self, millis: u64) -> Timeout {
        let lost = &mut self.lost;
        self.recovery
            .on_timeout(at(millis), &mut |_, _, content| lost.push(content))
    }
}

fn plain() -> RecoveryConfig {
    RecoveryConfig {
        ecn: false,
        ..RecoveryConfig::default()
    }
}

#[test]
fn three_newer_acks_mean_lost() {
    let mut rig = Rig::warm();
    rig.send_all(200, 1..=6);
    let outcome = rig.ack(300, &[(3, 3)]);
    assert_eq!((outcome.lost_packets, rig.lost.len()), (0, 0), "two newer ones do not");
    let outcome = rig.ack(301, &[(3, 5)]);
    assert_eq!(
        (rig.lost.as_slice(), rig.acked.as_slice()),
        (&[1, 2][..], &[3, 4, 5][..])
    );
    assert_eq!(
        (outcome.lost_packets, outcome.congestion, outcome.persistent),
        (2, true, false)
    );
    assert_eq!(rig.recovery.bytes_in_flight(), 1_000);
    let stats = rig.recovery.stats();
    assert_eq!(
        (stats.sent, stats.acked, stats.lost, stats.congestion_events),
        (7, 4, 2, 1)
    );
    assert_eq!((stats.sent_bytes, stats.acked_bytes), (7_000, 4_000));
}

#[test]
fn an_older_packet_is_lost_nine_eighths_of_a_round_trip_after_it_left() {
    let mut rig = Rig::warm();
    rig.send(200, 1, DATA);
    rig.send(210, 2, DATA);
    rig.ack(300, &[(2, 2)]);
    let deadline = rig.recovery.deadline().unwrap();
    assert!(deadline > at(305) && deadline <= at(313), "{deadline}");
    assert_eq!((rig.timeout(305), rig.lost.len()), (Timeout::Nothing, 0));
    assert_eq!(
        (rig.timeout(313), rig.lost.as_slice()),
        (Timeout::LossDeclared, &[1][..])
    );
    assert_eq!((rig.recovery.deadline(), rig.recovery.bytes_in_flight()), (None, 0));
}

#[test]
fn probe_timeouts_double_up_to_the_cap_and_start_over_with_an_ack() {
    let mut rig = Rig::warm();
    // 100 ms smoothed, 50 ms deviation: 100 + 4 * 50 + 25.
    assert_eq!(rig.recovery.pto(), ms(325));
    rig.send(1_000, 1, DATA);
    let mut now = 1_000;
    let mut waits = vec![];
    for count in 1..=6 {
        let deadline = rig.recovery.deadline().unwrap();
        waits.push(deadline.since(at(now)).as_millis());
        assert_eq!(rig.timeout(deadline.as_nanos() / 1_000_000 - 1), Timeout::Nothing);
        now = deadline.as_nanos() / 1_000_000;
        assert_eq!(rig.timeout(now), Timeout::Probe { count });
        rig.send(now, 1 + u64::from(count), DATA);
    }
    assert_eq!(waits, [325, 650, 1_300, 2_600, 4_000, 4_000]);
    assert_eq!(
        (rig.recovery.stats().ptos, rig.lost.len()),
        (6, 0),
        "a timeout alone declares nothing lost"
    );
    rig.send(now, 8, DATA);
    rig.ack(now + 100, &[(7, 7)]);
    assert_eq!(rig.lost, [1, 2, 3, 4, 5, 6]);
    let wait = rig.recovery.deadline().unwrap().since(at(now));
    assert_eq!(wait, rig.recovery.pto(), "no backoff");
}

#[test]
fn a_probe_timeout_nobody_answers_with_a_probe_does_not_spin() {
    let mut rig = Rig::warm();
    rig.send(1_000, 1, DATA);
    assert_eq!(rig.timeout(500_000), Timeout::Probe { count: 1 });
    assert_eq!(rig.timeout(500_000), Timeout::Nothing);
    assert!(rig.recovery.deadline().unwrap() > at(500_000));
}

#[test]
fn a_probe_timeout_overdue_behind_a_loss_timer_waits_for_what_was_lost() {
    // A steady path of 400 ms without deviation, then one sample of 2 s: the loss timer is the later one.
    let mut rig = Rig::new(plain());
    for number in 0..100 {
        rig.send(number * 1_000, number, DATA);
        rig.ack(number * 1_000 + 400, &[(0, number)]);
    }
    rig.send_all(200_000, 100..=101);
    rig.send(200_001, 102, DATA);
    rig.ack(202_000, &[(101, 101)]);
    let due = rig.recovery.deadline().unwrap();
    assert_eq!(due, at(202_250), "9/8 of two seconds");
    assert!(at(200_001) + rig.recovery.pto() < due);
    assert_eq!(
        (rig.timeout(202_250), rig.lost.as_slice()),
        (Timeout::LossDeclared, &[100][..])
    );
    assert_eq!(rig.recovery.deadline(), Some(due + rig.recovery.pto()));
}

#[test]
fn without_a_sample_the_initial_round_trip_is_assumed() {
    let mut rig = Rig::new(plain());
    assert_eq!(rig.recovery.deadline(), None);
    rig.send(0, 0, DATA);
    // 333 + 4 * 166.5 + 25.
    assert_eq!(rig.recovery.deadline(), Some(at(1_024)));
    let mut rig = Rig::new(RecoveryConfig {
        initial_rtt: ms(20),
        ..plain()
    });
    rig.send(0, 0, DATA);
    assert_eq!(rig.recovery.deadline(), Some(at(85)));
}

#[test]
fn acks_of_what_was_never_sent_change_nothing() {
    use AckError::{Malformed, NeverSent};
    let mut rig = Rig::warm();
    // 3 is skipped as a trap, 20 is the next.
    rig.send_all(200, 1..=2);
    rig.send_all(200, 4..=19);
    let cases: [(&[(u64, u64)], AckError); 11] = [
        (&[], Malformed),
        (&[(20, 20)], NeverSent),
        (&[(1, 20)], NeverSent),
        (&[(u64::MAX, u64::MAX)], NeverSent),
        (&[(3, 3)], NeverSent),
        (&[(0, 19)], NeverSent),
        (&[(19, 19), (2, 4)], NeverSent),
        (&[(2, 1)], Malformed),
        (&[(1, 2), (5, 6)], Malformed),
        (&[(5, 6), (4, 4)], Malformed),
        (&[(5, 6), (5, 6)], Malformed),
    ];
    for (ranges, error) in cases {
        assert_eq!(rig.try_ack(300, ranges, Some((9, 9, 9))), Err(error), "{ranges:?}");
        assert_eq!(
            (rig.acked.len(), rig.lost.len(), rig.recovery.bytes_in_flight()),
            (0, 0, 18_000)
        );
        assert_eq!((rig.recovery.largest_acked(), rig.recovery.stats().acked), (Some(0), 1));
    }
    rig.ack(300, &[(4, 19), (1, 2)]);
    assert_eq!(rig.recovery.bytes_in_flight(), 0);
    assert_eq!(rig.try_ack(400, &[(0, 4)], None), Err(NeverSent), "the trap stays set");
}

#[test]
fn the_number_of_ranges_is_bounded() {
    let mut rig = Rig::warm();
    rig.send_all(200, 1..=4_000);
    let ranges: Vec<_> = (1..=1_025).rev().map(|n| (n * 2, n * 2)).collect();
    assert_eq!(rig.try_ack(300, &ranges, None), Err(AckError::TooManyRanges));
    assert!(rig.try_ack(300, &ranges[..1_024], None).is_ok());
}

#[test]
fn repeating_an_ack_is_harmless() {
    let mut rig = Rig::warm();
    rig.send_all(200, 1..=5);
    let first = rig.ack(300, &[(4, 5), (0, 2)]);
    assert_eq!(
        (first.acked_packets, first.acked_bytes, first.rtt_sample),
        (4, 4_000, Some(ms(100)))
    );
    let again = rig.ack(350, &[(4, 5), (0, 2)]);
    assert_eq!(
        again,
        AckOutcome {
            lost_packets: again.lost_packets,
            congestion: again.congestion,
            ..AckOutcome::default()
        }
    );
    assert_eq!(
        (rig.acked.as_slice(), rig.lost.as_slice()),
        (&[4, 5, 1, 2][..], &[3][..]),
        "3 was due meanwhile"
    );
}

#[test]
fn samples_come_from_the_newest_packet_and_only_if_an_ack_was_owed() {
    let mut rig = Rig::warm();
    rig.send(200, 1, DATA);
    rig.send(220, 2, ACK_ONLY);
    // (ack, sample): the newest is passive but something else was owed; the newest is not new; only passive ones.
    assert_eq!(rig.ack(300, &[(1, 2)]).rtt_sample, Some(ms(80)));
    rig.send(310, 3, DATA);
    rig.send(320, 4, DATA);
    assert_eq!(rig.ack(420, &[(4, 4)]).rtt_sample, Some(ms(100)));
    assert_eq!(rig.ack(430, &[(3, 4)]).rtt_sample, None);
    rig.send(440, 5, ACK_ONLY);
    let outcome = rig.ack(500, &[(5, 5)]);
    assert_eq!((outcome.rtt_sample, outcome.acked_packets), (None, 1));
}

#[test]
fn the_claimed_ack_delay_is_believed_only_within_its_limit() {
    let mut rig = Rig::warm();
    rig.send(1_000, 1, DATA);
    let nothing = &mut |_, _: &SentInfo, _| {};
    rig.recovery
        .on_ack(
            at(1_200),
            [(1, 1)].into_iter(),
            Duration::from_secs(9),
            None,
            nothing,
            &mut |_, _, _| {},
        )
        .unwrap();
    // 7/8 * 100 + (200 - 25) / 8.
    assert_eq!(rig.recovery.rtt().smoothed(), Duration::from_micros(109_375));
}

#[test]
fn losing_everything_for_long_is_persistent_congestion() {
    // (what was sent at which time, acknowledged in the end, persistent); the period is 3 * (100 + 4 * 37.5 + 25) ms.
    type Case = (&'static [u64], &'static [(u64, u64)], bool);
    let cases: [Case; 4] = [
        (&[1_000, 1_300, 1_900, 2_100, 2_200], &[(5, 5)], true),
        (&[1_000, 1_300, 1_700, 1_800, 2_200], &[(5, 5)], false),
        // An ack between breaks the run.
        (&[1_000, 1_300, 1_900, 2_100, 2_200], &[(5, 5), (2, 2)], false),
        (&[1_000, 1_300, 1_500, 3_000, 3_100], &[(5, 5), (1, 1)], true),
    ];
    for (times, ranges, persistent) in cases {
        let mut rig = Rig::warm();
        for (number, &millis) in (1..).zip(times) {
            rig.send(millis, number, DATA);
        }
        let last = times[times.len() - 1];
        let outcome = rig.ack(last + 100, ranges);
        assert_eq!(outcome.persistent, persistent, "{times:?} {ranges:?}");
        assert_eq!(rig.recovery.window() == 2_400, persistent);
        assert_eq!(rig.recovery.stats().persistent, u64::from(persistent));
    }
}

#[test]
fn losses_before_the_first_sample_and_lost_probes_are_not_persistent_congestion() {
    let mut rig = Rig::new(plain());
    for number in 0..10 {
        rig.send(number * 1_000, number, DATA);
    }
    assert!(!rig.ack(9_100, &[(9, 9)]).persistent);
    let mut rig = Rig::warm();
    for number in 1..10 {
        rig.send(number * 1_000, number, PROBE);
    }
    rig.send(10_000, 10, DATA);
    let window = rig.recovery.window();
    let outcome = rig.ack(10_100, &[(10, 10)]);
    assert_eq!(
        (outcome.lost_packets, outcome.congestion, outcome.persistent),
        (9, false, false)
    );
    assert!(
        rig.recovery.window() >= window,
        "an MTU probe's loss leaves the window alone"
    );
    assert_eq!(rig.recovery.bytes_in_flight(), 0);
}

#[test]
fn one_flight_of_losses_is_one_event() {
    let mut rig = Rig::warm();
    rig.send_all(200, 1..=12);
    // The ack that shows the loss still grows the window.
    let before = rig.recovery.window() + 1_000;
    assert!(rig.ack(300, &[(4, 4)]).congestion);
    assert_eq!(rig.recovery.window(), before / 10 * 7);
    assert!(!rig.ack(301, &[(12, 12), (4, 4)]).congestion);
    assert_eq!(
        (rig.recovery.window(), rig.recovery.stats().congestion_events),
        (before / 10 * 7, 1)
    );
    rig.send_all(400, 13..=20);
    assert!(rig.ack(500, &[(20, 20)]).congestion, "sent after the event began");
}

#[test]
fn one_packet_leaves_beside_a_window_that_shrank() {
    let mut rig = Rig::warm();
    rig.send_all(200, 1..=13);
    assert!(!rig.recovery.can_send(1_000), "the window is full");
    assert!(rig.ack(300, &[(4, 4)]).congestion);
    assert!(rig.recovery.bytes_in_flight() + 1_000 > rig.recovery.window());
    assert!(rig.recovery.can_send(1_000), "what was lost is repaired at once");
    rig.send(300, 14, DATA);
    assert!(!rig.recovery.can_send(1_000), "once per recovery period");
    rig.ack(301, &[(6, 6), (4, 4)]);
    assert!(!rig.recovery.can_send(1_000), "and this is still the same one");
}

#[test]
fn late_acks_take_the_event_back_and_widen_the_thresholds() {
    let mut rig = Rig::warm();
    rig.send_all(200, 1..=10);
    let before = rig.recovery.window() + 1_000;
    let outcome = rig.ack(300, &[(5, 5)]);
    assert_eq!((rig.lost.as_slice(), outcome.congestion), (&[1, 2][..], true));
    let outcome = rig.ack(302, &[(5, 5), (1, 1)]);
    assert_eq!((outcome.spurious, outcome.acked_packets), (1, 0));
    assert!(rig.recovery.window() < before, "one of the two may still be a loss");
    let outcome = rig.ack(303, &[(5, 5), (1, 2)]);
    assert_eq!((outcome.spurious, rig.recovery.window()), (1, before));
    assert_eq!((rig.recovery.stats().spurious, rig.recovery.stats().lost), (2, 2));
    assert_eq!(rig.acked, [5], "handed back once, as lost");
    // Five newer acks are no proof any more: the threshold is six.
    rig.ack(304, &[(8, 8), (5, 5), (1, 2)]);
    assert_eq!(rig.lost, [1, 2]);
    rig.ack(305, &[(9, 9)]);
    assert_eq!(rig.lost, [1, 2, 3]);
}

#[test]
fn what_is_acknowledged_late_after_the_memory_is_full_changes_nothing() {
    let mut rig = Rig::warm();
    rig.send_all(200, 1..=1_000);
    rig.ack(300, &[(1_000, 1_000)]);
    assert_eq!(rig.lost.len(), 997);
    let outcome = rig.ack(301, &[(1_000, 1_000), (1, 500)]);
    assert_eq!(
        (outcome.spurious, outcome.acked_packets, rig.recovery.bytes_in_flight()),
        (0, 0, 2_000)
    );
}

#[test]
fn congestion_marks_shrink_the_window_once_per_flight() {
    let mut rig = Rig::new(RecoveryConfig::default());
    assert!(rig.recovery.ecn_enabled());
    rig.send_all(0, 0..=9);
    let window = rig.recovery.window();
    let outcome = rig.try_ack(100, &[(0, 3)], Some((3, 0, 1))).unwrap();
    assert_eq!((outcome.congestion, outcome.lost_packets), (true, 0));
    assert!(rig.recovery.window() < window);
    let outcome = rig.try_ack(101, &[(0, 7)], Some((6, 0, 2))).unwrap();
    assert!(!outcome.congestion);
    rig.send_all(200, 10..=12);
    assert!(rig.try_ack(300, &[(0, 12)], Some((10, 0, 3))).unwrap().congestion);
    assert!(rig.recovery.ecn_enabled());
}

#[test]
fn implausible_counts_switch_ecn_off() {
    // The second ack's counts after (4, 0, 0) for 0..=3, where 4..=7 of 0..=9 are acknowledged too.
    let cases = [
        (Some((8, 0, 0)), true),
        (Some((5, 0, 3)), true),
        (Some((10, 0, 0)), true),
        (None, false),
        (Some((7, 0, 0)), false),
        (Some((3, 0, 9)), false),
        (Some((7, 1, 1)), false),
        (Some((11, 0, 0)), false),
        (Some((u64::MAX, 0, u64::MAX)), false),
    ];
    for (counts, valid) in cases {
        let mut rig = Rig::new(RecoveryConfig::default());
        rig.send_all(0, 0..=9);
        rig.try_ack(100, &[(0, 3)], Some((4, 0, 0))).unwrap();
        let outcome = rig.try_ack(101, &[(0, 7)], counts).unwrap();
        assert_eq!(
            (outcome.ecn_failed, rig.recovery.ecn_enabled()),
            (!valid, valid),
            "{counts:?}"
        );
        assert_eq!(outcome.acked_packets, 4, "the ack itself counts either way");
        let window = rig.recovery.window();
        rig.send(200, 10, DATA);
        let outcome = rig
            .try_ack(300, &[(0, 10)], counts.map(|(ect0, ect1, _)| (ect0, ect1, u64::MAX)))
            .unwrap();
        assert!(
            valid || (!outcome.congestion && rig.recovery.window() >= window),
            "{counts:?}: off is off"
        );
    }
}

#[test]
fn acks_that_arrive_out_of_order_say_nothing_about_ecn() {
    let mut rig = Rig::new(RecoveryConfig::default());
    rig.send_all(0, 0..=9);
    rig.try_ack(100, &[(0, 5)], Some((6, 0, 0))).unwrap();
    let outcome = rig.try_ack(101, &[(0, 3)], Some((4, 0, 0))).unwrap();
    assert!(!outcome.ecn_failed && rig.recovery.ecn_enabled());
}

#[test]
fn a_new_path_starts_afresh_and_old_packets_do_not_touch_it() {
    let mut rig = Rig::new(RecoveryConfig::default());
    rig.send_all(0, 0..=9);
    rig.try_ack(50, &[(0, 4)], Some((5, 0, 0))).unwrap();
    rig.recovery.on_packet_size(1_400);
    rig.recovery.reset_path(at(60));
    let fresh = Recovery::<u64>::new(&RecoveryConfig::default(), at(60));
    assert_eq!(
        (rig.recovery.bytes_in_flight(), rig.recovery.window()),
        (0, fresh.window())
    );
    assert_eq!(rig.recovery.rtt(), fresh.rtt());
    assert!(rig.recovery.deadline().is_some(), "old packets are still probed for");
    rig.send_all(70, 10..=11);
    // Old ones acknowledged: no sample, no growth. Old ones lost: no event.
    let outcome = rig.try_ack(80, &[(9, 9), (0, 4)], Some((6, 0, 0))).unwrap();
    assert_eq!(
        (outcome.rtt_sample, outcome.congestion, outcome.lost_packets),
        (None, false, 2)
    );
    assert_eq!(
        (rig.recovery.window(), rig.recovery.bytes_in_flight()),
        (fresh.window(), 2_000)
    );
    let outcome = rig.try_ack(90, &[(9, 11), (0, 4)], Some((8, 0, 0))).unwrap();
    assert_eq!((outcome.rtt_sample, outcome.congestion), (Some(ms(20)), false));
    assert_eq!(
        (rig.lost.as_slice(), rig.recovery.bytes_in_flight()),
        (&[5, 6, 7, 8][..], 0)
    );
    assert_eq!(rig.recovery.eliciting_outstanding(), 0);
}

#[test]
fn ecn_that_failed_gets_another_chance_on_a_new_path() {
    let mut rig = Rig::new(RecoveryConfig::default());
    rig.send_all(0, 0..=1);
    rig.try_ack(10, &[(0, 0)], None).unwrap();
    assert!(!rig.recovery.ecn_enabled());
    rig.recovery.reset_path(at(20));
    assert!(rig.recovery.ecn_enabled());
    rig.send(30, 2, DATA);
    assert!(!rig.try_ack(40, &[(0, 2)], Some((3, 0, 0))).unwrap().ecn_failed);
}

#[test]
fn the_window_bounds_what_is_in_flight_and_acks_alone_are_free() {
    let mut rig = Rig::new(plain());
    let mut number = 0;
    while rig.recovery.can_send(1_000) {
        rig.send(0, number, DATA);
        rig.send(0, number + 1, ACK_ONLY);
        number += 2;
    }
    assert_eq!(
        (rig.recovery.bytes_in_flight(), rig.recovery.window()),
        (12_000, 12_000)
    );
    assert_eq!(rig.recovery.outstanding().count(), 24);
    rig.send(0, number, DATA);
    assert_eq!(rig.recovery.bytes_in_flight(), 13_000, "a probe may exceed it");
}

#[test]
fn a_sender_without_data_does_not_grow_its_window() {
    // (packets in flight of a window of 12, limited, grows)
    for (packets, limited, grows) in [(2, true, false), (2, false, true), (6, true, true), (12, true, true)] {
        let mut rig = Rig::new(plain());
        rig.send_all(0, 0..=packets - 1);
        rig.recovery.on_app_limited(limited);
        rig.ack(100, &[(0, packets - 1)]);
        assert_eq!(
            rig.recovery.window() > 12_000,
            grows,
            "{packets} packets, limited: {limited}"
        );
    }
}

#[test]
fn pacing_spreads_a_window_over_the_round_trip() {
    let mut rig = Rig::new(RecoveryConfig {
        initial_rtt: ms(100),
        ..plain()
    });
    assert_eq!(rig.recovery.pacing_deadline(at(0), 1_200), None);
    rig.send_all(0, 0..=11);
    let next = rig.recovery.pacing_deadline(at(0), 1_200).unwrap();
    // Twice 12,000 B per 100 ms: half a burst of 12,000 B takes 25 ms.
    assert_eq!(next, at(25));
    assert_eq!(rig.recovery.pacing_deadline(at(25), 1_200), None);
}

#[test]
fn new_reno_can_be_chosen() {
    let mut rig = Rig::new(RecoveryConfig {
        algorithm: Algorithm::NewReno,
        ..plain()
    });
    rig.send_all(0, 0..=9);
    rig.ack(100, &[(9, 9)]);
    assert_eq!(rig.recovery.window(), (12_000 + 1_000) / 2);
}
