//! Explicit fates: which datagrams of a link direction are lost, held, doubled or damaged, in place of a probability.
//!
//! A link can write down which of its chances took effect ([`Struck`]); listed again ([`Listed`]) they give the same run.
//! Only which datagrams are struck is listed: for how long one is held or what damage it takes follows from the key under
//! which that was decided at first.
//! Invariants: lists are sorted; a datagram that is struck by one list is not touched by another's removal.
//! Not here: the link (`link.rs`), which fates a scenario lists (`net-io-sim`).

use crate::corrupt::Damage;

/// What can befall a datagram by chance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FateKind {
    /// It does not arrive.
    Lost,
    /// It arrives behind later ones.
    Held,
    /// It arrives twice.
    Doubled,
    /// It arrives damaged.
    Damaged,
}

impl FateKind {
    /// Every kind, in the order in which they are listed.
    pub const ALL: [Self; 4] = [Self::Lost, Self::Held, Self::Doubled, Self::Damaged];

    /// A stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lost => "loss",
            Self::Held => "hold",
            Self::Doubled => "dup",
            Self::Damaged => "corrupt",
        }
    }
}

/// A fate and the datagrams that have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// What befalls them.
    pub kind: FateKind,
    /// Held: up to this much longer, ns.
    pub hold: u64,
    /// Damaged: how.
    pub damage: Damage,
    /// Which, by number on their link and direction, ascending.
    pub datagrams: Vec<u64>,
}

impl Listed {
    /// Whether datagram `n` is listed.
    #[inline]
    #[must_use]
    pub fn holds(&self, n: u64) -> bool {
        self.datagrams.binary_search(&n).is_ok()
    }
}

/// A chance that took effect.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Struck {
    /// The fault that decided it; `None` is the link itself.
    pub fault: Option<u32>,
    /// What befell the datagram.
    pub kind: FateKind,
    /// Its number on its link and direction.
    pub n: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::Distribution;
    use crate::key::{Direction, Key};
    use crate::link::{Effect, Fates, Link, LinkFault, LinkSpec};
    use crate::loss::Loss;

    const MS: u64 = 1_000_000;
    const COUNT: u64 = 3_000;

    fn key() -> Key {
        Key::new(5).link(2, Direction::Forward)
    }

    fn spec() -> LinkSpec {
        LinkSpec {
            delay: Distribution::Uniform {
                low: 5 * MS,
                high: 40 * MS,
            },
            loss: Loss::GilbertElliott {
                to_bad: 30_000_000,
                to_good: 300_000_000,
                good: 1_000_000,
                bad: 500_000_000,
            },
            reorder: 60_000_000,
            hold: 9 * MS,
            duplicate: 40_000_000,
            corrupt: 30_000_000,
            damage: Damage::Any,
            ..LinkSpec::clean(0)
        }
    }

    fn faults() -> Vec<LinkFault> {
        let effects = [
            Effect::Loss(Loss::Independent { ppb: 100_000_000 }),
            Effect::Reorder {
                ppb: 100_000_000,
                hold: 3 * MS,
            },
            Effect::Duplicate { ppb: 100_000_000 },
            Effect::Corrupt {
                ppb: 100_000_000,
                damage: Damage::Bits,
            },
        ];
        let each = effects.into_iter().zip(0..);
        each.map(|(effect, id)| LinkFault {
            id,
            from: 50 * MS,
            until: 200 * MS,
            effect,
        })
        .collect()
    }

    fn name(fault: u32) -> Key {
        key().with_text("fault").with(u64::from(fault))
    }

    fn offer_all(link: &mut Link) -> Vec<Fates> {
        (0..COUNT).map(|n| link.offer(n * 100_000, n, 900)).collect()
    }

    /// The link's fates as lists, by who decided them.
    fn lists(struck: &[Struck]) -> Vec<(Option<u32>, Listed)> {
        let mut lists = Vec::new();
        for fault in [None, Some(0), Some(1), Some(2), Some(3)] {
            for kind in FateKind::ALL {
                let of = |one: &&Struck| (one.fault, one.kind) == (fault, kind);
                let datagrams: Vec<u64> = struck.iter().filter(of).map(|one| one.n).collect();
                let (hold, damage) = match fault {
                    None => (9 * MS, Damage::Any),
                    Some(_) => (3 * MS, Damage::Bits),
                };
                if !datagrams.is_empty() {
                    let listed = Listed {
                        kind,
                        hold,
                        damage,
                        datagrams,
                    };
                    lists.push((fault, listed));
                }
            }
        }
        lists
    }

    fn listed(lists: &[(Option<u32>, Listed)]) -> Link {
        let calm = LinkSpec {
            delay: spec().delay,
            ..LinkSpec::clean(0)
        };
        let mut link = Link::new(calm, key());
        for (fault, list) in lists {
            link.list(list.clone(), fault.map(name));
        }
        link
    }

    #[test]
    fn chances_written_down_and_listed_again_give_every_datagram_the_same_fate() {
        let mut link = Link::new(spec(), key());
        faults().into_iter().for_each(|fault| {
            let own = name(fault.id);
            link.add(fault, own);
        });
        link.keep_fates();
        let by_chance = offer_all(&mut link);
        let lists = lists(link.struck());
        assert_eq!(lists.len(), 8, "all four kinds by chance of the link and of the faults");
        assert_eq!(offer_all(&mut listed(&lists)), by_chance);
    }

    #[test]
    fn taking_one_datagram_off_a_list_changes_its_fate_alone() {
        let mut link = Link::new(spec(), key());
        link.keep_fates();
        offer_all(&mut link);
        let lists = lists(link.struck());
        let all = offer_all(&mut listed(&lists));
        for place in 0..lists.len() {
            let mut fewer = lists.clone();
            let n = fewer[place].1.datagrams.remove(0);
            let rest = offer_all(&mut listed(&fewer));
            let differing: Vec<u64> = (0..COUNT).filter(|&n| all[n as usize] != rest[n as usize]).collect();
            assert_eq!(differing, [n], "{:?}", lists[place].1.kind);
        }
    }

    #[test]
    fn a_healed_link_forgets_its_lists() {
        let lost = Listed {
            kind: FateKind::Lost,
            hold: 0,
            damage: Damage::Bits,
            datagrams: vec![0, 1],
        };
        let mut link = listed(&[(None, lost)]);
        assert!(link.offer(0, 0, 64).first.is_err());
        link.heal();
        assert!(link.offer(1, 1, 64).first.is_ok());
    }
}
