//! What a node tells prometheus, gathered when it is scraped.
//!
//! Invariants: nothing is counted twice and counters never fall; the hot path keeps plain integers; no label holds a
//! key, an address or anything a peer chose.
//! Not here: serving the text (the application), tracing.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::api::{Drops, Duration, Relayed};
use crate::hub::{Counters, Hub, Shared};
use crate::mesh::FactCounts;

/// Upper bounds of the round-trip histogram, in microseconds; the last bucket has none.
const RTT_BOUNDS_US: [u64; 12] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 250_000, 1_000_000,
];

/// Round trips by size.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct RttHistogram {
    buckets: [u64; RTT_BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl RttHistogram {
    pub(crate) fn observe(&mut self, rtt: Duration) {
        let us = rtt.as_micros();
        let at = RTT_BOUNDS_US
            .iter()
            .position(|&bound| us <= bound)
            .unwrap_or(RTT_BOUNDS_US.len());
        self.buckets[at] += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

/// Reads a node when its registry is scraped.
pub(crate) struct NodeCollector(Arc<Shared>);

impl NodeCollector {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// One look at everything, under one lock.
    fn look(&self) -> Snapshot {
        let mut hub = self.0.lock();
        let keys: Vec<_> = hub.board.sessions().map(|(key, _)| *key).collect();
        let mut sessions = 0;
        for key in keys {
            let Some(stats) = hub.stats(key) else { continue };
            sessions += 1;
            let board = &mut hub.board;
            board.counters.rtt.observe(stats.rtt);
            if let Some(entry) = board.session(key) {
                let fresh = stats.lost.saturating_sub(entry.lost_counted);
                entry.lost_counted = stats.lost;
                board.counters.lost_datagrams += fresh;
            }
        }
        Snapshot {
            sessions,
            drops: hub.drops(),
            counters: hub.board.counters,
            mesh: MeshFigures::of(&hub),
        }
    }
}

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NodeCollector").field(&self.0.entity).finish()
    }
}

struct Snapshot {
    sessions: i64,
    drops: Drops,
    counters: Counters,
    mesh: Option<MeshFigures>,
}

/// The mesh in numbers, where the node is part of one.
struct MeshFigures {
    nodes: i64,
    neighbours: i64,
    usable: i64,
    joined: i64,
    facts: FactCounts,
    relayed: Relayed,
}

impl MeshFigures {
    fn of(hub: &Hub) -> Option<Self> {
        let mesh = hub.mesh()?;
        let size = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        Some(Self {
            nodes: size(mesh.routes().known().count()),
            neighbours: size(mesh.neighbours().count()),
            usable: size(mesh.neighbours().filter(|link| link.counts).count()),
            joined: size(hub.board.joined.len()),
            facts: hub.board.facts.counts,
            relayed: hub.relayed(),
        })
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let gauges = [
            ("mesh_nodes", "Other nodes that are reached", self.nodes),
            ("mesh_neighbours", "Peers with a direct session", self.neighbours),
            (
                "mesh_neighbours_usable",
                "Neighbours that routes may lead over",
                self.usable,
            ),
            ("mesh_joined", "Peers that are kept connected", self.joined),
        ];
        for (name, help, value) in gauges {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        let relayed = &self.relayed;
        for (name, help, value) in [
            ("relayed_packets", "Packets of others sent on", relayed.packets),
            ("relayed_bytes", "Bytes in them", relayed.bytes),
            (
                "relay_refused_packets",
                "Packets of others turned away",
                relayed.refused,
            ),
        ] {
            let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(counter)?;
        }
        let facts = &self.facts;
        let counters = [
            ("found", facts.found),
            ("lost", facts.lost),
            ("suspected", facts.suspected),
            ("refuted", facts.refuted),
            ("failed", facts.failed),
            ("link_lost", facts.link_lost),
            ("recovered", facts.recovered),
            ("outage", facts.outages),
            ("outage_over", facts.outages_over),
            ("collision", facts.collisions),
        ];
        let help = "What became known of the mesh, by kind";
        let mut family = encoder.encode_descriptor("mesh_facts", help, None, MetricType::Counter)?;
        for (kind, count) in counters {
            ConstCounter::new(count).encode(family.encode_family(&[("kind", kind)])?)?;
        }
        Ok(())
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Snapshot {
            sessions,
            drops,
            counters,
            mesh,
        } = self.look();
        let gauge = encoder.encode_descriptor("sessions", "Sessions that are up", None, MetricType::Gauge)?;
        ConstGauge::new(sessions).encode(gauge)?;
        for (name, help, value) in rows(&counters) {
            let counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(counter)?;
        }
        let mut family = encoder.encode_descriptor(
            "dropped",
            "Datagrams and frames refused, by reason",
            None,
            MetricType::Counter,
        )?;
        for (reason, count) in drops.nonzero() {
            let labels = [("reason", reason.name())];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        if let Some(mesh) = mesh {
            mesh.encode(&mut encoder)?;
        }
        let mut histogram = encoder.encode_descriptor(
            "rtt_seconds",
            "Round trips: one sample per echo, and one per session and scrape",
            None,
            MetricType::Histogram,
        )?;
        let bounds = RTT_BOUNDS_US.iter().map(|&us| us as f64 / 1e6).chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counters.rtt.buckets).collect();
        let count = counters.rtt.buckets.iter().sum();
        let sum = counters.rtt.sum_us as f64 / 1e6;
        histogram.encode_histogram::<prometheus_client::encoding::NoLabelSet>(sum, count, &buckets, None)
    }
}

fn rows(counters: &Counters) -> [(&'static str, &'static str, u64); 17] {
    [
        ("sessions_opened", "Sessions that came up", counters.sessions_opened),
        ("sessions_closed", "Sessions that ended", counters.sessions_closed),
        (
            "connects_failed",
            "Connection attempts without a session",
            counters.connects_failed,
        ),
        (
            "sent_datagrams",
            "Datagrams handed to the host",
            counters.sent_datagrams,
        ),
        ("sent_bytes", "Bytes in them", counters.sent_bytes),
        ("sent_calls", "System calls that took", counters.sent_calls),
        (
            "unsendable_datagrams",
            "Datagrams the host refused for good",
            counters.refused_datagrams,
        ),
        ("received_datagrams", "Datagrams received", counters.received_datagrams),
        ("received_bytes", "Bytes in them", counters.received_bytes),
        ("received_calls", "System calls that took", counters.received_calls),
        (
            "lost_datagrams",
            "Datagrams found lost; their data was sent again where reliable",
            counters.lost_datagrams,
        ),
        ("moves", "Changes of peers' addresses", counters.moves),
        ("rekeys", "Keys replaced", counters.rekeys),
        ("turns", "Turns of the kernel", counters.turns),
        ("jobs_inline", "Jobs run by the driver", counters.jobs_inline),
        ("jobs_pooled", "Jobs run by threads", counters.jobs_pooled),
        (
            "store_failures",
            "Storage operations that failed",
            counters.store_failures,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_fall_into_their_buckets() {
        let mut histogram = RttHistogram::default();
        for us in [10, 50, 51, 2_000_000] {
            histogram.observe(Duration::from_micros(us));
        }
        assert_eq!(histogram.buckets[0], 2, "a bound belongs to its bucket");
        assert_eq!(histogram.buckets[1], 1);
        assert_eq!(histogram.buckets[RTT_BOUNDS_US.len()], 1);
        assert_eq!(histogram.sum_us, 2_000_111);
    }
}
