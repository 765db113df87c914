//! Taking one fault out leaves the fate of every other datagram as it was, whatever the link and the other faults are.

use std::collections::BTreeSet;

use net_sim_model::{
    Cause, Damage, Dependence, Direction, Distribution, Effect, Endpoint, Fates, Key, Kinds, Link, LinkFault, LinkSpec,
    Loss, Nat, NatSpec, PPB, Rate, Refresh,
};
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const DATAGRAMS: u64 = 400;

fn probability() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 0..PPB / 4, Just(PPB)]
}

fn kinds() -> impl Strategy<Value = Kinds> {
    prop_oneof![
        Just(Kinds::INITIATION),
        Just(Kinds::RESPONSE),
        Just(Kinds::HANDSHAKE),
        Just(Kinds::PROTECTED),
        Just(Kinds::ALL),
    ]
}

fn loss() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::None),
        probability().prop_map(|ppb| Loss::Independent { ppb }),
        (probability(), probability(), probability()).prop_map(|(to_bad, to_good, bad)| Loss::GilbertElliott {
            to_bad,
            to_good,
            good: 0,
            bad
        }),
        (1..20u64).prop_map(|n| Loss::EveryNth { n }),
        (kinds(), probability(), 0..30u64).prop_map(|(kinds, ppb, first)| Loss::OfKind { kinds, ppb, first }),
    ]
}

fn delay() -> impl Strategy<Value = Distribution> {
    prop_oneof![
        (0..50 * MS).prop_map(Distribution::Constant),
        (0..20 * MS, 20 * MS..60 * MS).prop_map(|(low, high)| Distribution::Uniform { low, high }),
        (5 * MS..60 * MS, 0..9 * MS).prop_map(|(mean, deviation)| Distribution::Normal {
            mean,
            deviation,
            min: MS
        }),
        prop::collection::vec(0..60 * MS, 1..9).prop_map(Distribution::Trace),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::Bits),
        Just(Damage::Truncate),
        Just(Damage::Extend),
        Just(Damage::Any)
    ]
}

prop_compose! {
    fn spec()(
        delay in delay(), loss in loss(), reorder in probability(), hold in 0..30 * MS, duplicate in probability(),
        corrupt in probability(), damage in damage(), mtu in prop_oneof![Just(0u32), 500..1_500u32],
    ) -> LinkSpec {
        LinkSpec { delay, loss, reorder, hold, duplicate, corrupt, damage, mtu, ..LinkSpec::clean(0) }
    }
}

/// Faults that decide about one datagram at a time.
fn pointwise() -> impl Strategy<Value = Effect> {
    prop_oneof![
        prop::option::of((MS..40 * MS, MS..40 * MS)).prop_map(|flap| Effect::Partition { flap }),
        loss().prop_map(Effect::Loss),
        (probability(), 0..30 * MS).prop_map(|(ppb, hold)| Effect::Reorder { ppb, hold }),
        probability().prop_map(|ppb| Effect::Duplicate { ppb }),
        (probability(), damage()).prop_map(|(ppb, damage)| Effect::Corrupt { ppb, damage }),
        (500..1_500u32).prop_map(Effect::Mtu),
    ]
}

fn faults(effects: impl Strategy<Value = Effect>) -> impl Strategy<Value = Vec<LinkFault>> {
    let one = (effects, 0..60 * MS, 0..80 * MS);
    prop::collection::vec(one, 1..6).prop_map(|all| {
        let numbered = all.into_iter().enumerate();
        numbered
            .map(|(id, (effect, from, lasts))| LinkFault {
                id: id as u32,
                from,
                until: from + lasts,
                effect,
            })
            .collect()
    })
}

/// What becomes of every datagram, with these faults. Each fault's decisions stand under its own name.
fn fates(seed: u64, spec: &LinkSpec, faults: &[&LinkFault]) -> Vec<Fates> {
    let key = Key::new(seed).link(3, Direction::Forward);
    let mut link = Link::new(spec.clone(), key);
    for fault in faults {
        link.add((*fault).clone(), key.with_text(&format!("fault-{}", fault.id)));
    }
    let kinds = [Kinds::INITIATION, Kinds::RESPONSE, Kinds::COOKIE, Kinds::PROTECTED];
    (0..DATAGRAMS)
        .map(|n| {
            let kind = kinds[Key::new(seed).below(n, 4) as usize];
            let mut fates = link.offer_kind(n * 200_000, n, 40 + (n as usize * 97) % 1_460, kind);
            // Where several would have lost it, any of them may be named.
            fates.first = fates
                .first
                .map_err(|cause| if cause == Cause::Queue { cause } else { Cause::Loss });
            fates
        })
        .collect()
}

fn differing(a: &[Fates], b: &[Fates]) -> BTreeSet<usize> {
    (0..a.len()).filter(|&n| a[n] != b[n]).collect()
}

/// What must not change where only times may: whether it arrives, how damaged, whether twice.
fn outcome(fates: &Fates) -> (bool, Option<u64>, bool) {
    let corrupt = fates.first.ok().and_then(|first| first.corrupt);
    (
        fates.first.is_ok(),
        corrupt.map(|corrupt| corrupt.word),
        fates.second.is_some(),
    )
}

proptest! {
    #[test]
    fn removing_a_fault_changes_only_what_it_touches_by_itself(
        seed: u64, spec in spec(), faults in faults(pointwise()), which: prop::sample::Index,
    ) {
        let gone = which.index(faults.len());
        let all: Vec<&LinkFault> = faults.iter().collect();
        let rest: Vec<&LinkFault> = all.iter().copied().filter(|fault| fault.id != gone as u32).collect();
        let changed = differing(&fates(seed, &spec, &all), &fates(seed, &spec, &rest));
        let alone = differing(&fates(seed, &spec, &[&faults[gone]]), &fates(seed, &spec, &[]));
        let others: Vec<&usize> = changed.difference(&alone).collect();
        prop_assert!(others.is_empty(), "{:?} changed {others:?}", faults[gone]);
    }

    #[test]
    fn removing_a_delay_changes_times_and_nothing_else(
        seed: u64, spec in spec(), faults in faults(pointwise()), extra in delay(),
    ) {
        let slow = LinkFault { id: 99, from: 10 * MS, until: 50 * MS, effect: Effect::Delay(extra) };
        let rest: Vec<&LinkFault> = faults.iter().collect();
        let all: Vec<&LinkFault> = rest.iter().copied().chain([&slow]).collect();
        let (with, without) = (fates(seed, &spec, &all), fates(seed, &spec, &rest));
        for (a, b) in with.iter().zip(&without) {
            prop_assert_eq!(outcome(a), outcome(b));
        }
    }

    #[test]
    fn removing_a_bottleneck_changes_nothing_else_about_what_passes_it(
        seed: u64, spec in spec(), faults in faults(pointwise()), bytes_per_s in 100_000..9_000_000u64,
    ) {
        let rate = Rate { bytes_per_s, queue: 20_000, mark: 5_000 };
        let slow = LinkFault { id: 99, from: 10 * MS, until: 50 * MS, effect: Effect::Rate(rate) };
        let rest: Vec<&LinkFault> = faults.iter().collect();
        let all: Vec<&LinkFault> = rest.iter().copied().chain([&slow]).collect();
        let (with, without) = (fates(seed, &spec, &all), fates(seed, &spec, &rest));
        for (a, b) in with.iter().zip(&without) {
            if a.first != Err(Cause::Queue) {
                prop_assert_eq!(outcome(a), outcome(b));
            }
        }
    }
}

fn dependence() -> impl Strategy<Value = Dependence> {
    prop_oneof![
        Just(Dependence::Endpoint),
        Just(Dependence::Address),
        Just(Dependence::AddressAndPort)
    ]
}

prop_compose! {
    fn nat()(
        mapping in dependence(), filtering in dependence(), preserve_port: bool, parity: bool, both: bool,
        timeout in 1..60u64,
    ) -> NatSpec {
        let refresh = if both { Refresh::Both } else { Refresh::Outbound };
        NatSpec { mapping, filtering, preserve_port, parity, refresh, timeout, ..NatSpec::FULL_CONE }
    }
}

proptest! {
    #[test]
    fn removing_one_inside_endpoint_moves_no_others_ports(
        seed: u64, spec in nat(), sends in prop::collection::vec((0..6u64, 0..3u64, 0..3u16), 1..120), gone in 0..6u64,
    ) {
        let (mut all, mut rest) = (Nat::new(spec.clone(), Key::new(seed)), Nat::new(spec, Key::new(seed)));
        let mut taken = BTreeSet::new();
        for (now, (host, remote, port)) in sends.into_iter().enumerate() {
            let now = now as u64;
            let inside = Endpoint { host, port: 4_000 };
            let to = Endpoint { host: 1_000 + remote, port: 9_000 + port };
            let with = all.outbound(now, inside, to);
            if host == gone {
                taken.extend(with);
                continue;
            }
            let without = rest.outbound(now, inside, to);
            // Two that want one port are the one case in which somebody must give way.
            let gave_way = without.is_ok_and(|port| taken.contains(&port)) || taken.contains(&inside.port);
            prop_assert!(with == without || gave_way, "{with:?} with it, {without:?} without");
            if with == without && let Ok(port) = with {
                prop_assert_eq!(all.inbound(now, to, port), Ok(inside));
                prop_assert_eq!(rest.inbound(now, to, port), Ok(inside));
            }
        }
    }

    #[test]
    fn rebinding_moves_every_port_and_removing_it_moves_none(
        seed: u64, spec in nat(), hosts in prop::collection::btree_set(0..50u64, 1..9),
    ) {
        let spec = NatSpec { preserve_port: false, ..spec };
        let (mut plain, mut rebound) = (Nat::new(spec.clone(), Key::new(seed)), Nat::new(spec, Key::new(seed)));
        let to = Endpoint { host: 1_000, port: 9_000 };
        let ports = |nat: &mut Nat| -> Vec<_> {
            hosts.iter().map(|&host| nat.outbound(0, Endpoint { host, port: 4_000 }, to)).collect()
        };
        let before = ports(&mut plain);
        prop_assert_eq!(&ports(&mut rebound), &before);
        rebound.rebind(0);
        let after = ports(&mut rebound);
        let same = before.iter().zip(&after).filter(|(a, b)| a == b).count();
        prop_assert!(same <= 1, "{same} of {} kept their port by chance", before.len());
        prop_assert_eq!(ports(&mut plain), before);
    }
}
