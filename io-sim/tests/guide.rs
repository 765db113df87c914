//! The scenario that docs/writing-a-scenario.md shows is one, passes, and does what it says.
//!
//! Invariants: the text under test is the page's. Not here: the programs of the pages, which run as documentation tests.

use net_io_sim::kernel::ClearKernel;
use net_io_sim::run::Spec;
use net_io_sim::suite::Suite;

#[test]
fn the_scenario_of_the_guide_passes_and_its_partition_bites() {
    let page = include_str!("../../docs/writing-a-scenario.md");
    let (_, rest) = page.split_once("```toml\n").expect("the page shows a scenario");
    let (text, _) = rest.split_once("```").expect("it ends");
    let spec = Spec::new("lossy.toml", text).expect("it is correct");
    let summary = Suite::new([spec]).seeds(1..=20).run::<ClearKernel>();
    summary.assert_passed();
    assert!(summary.sum("link.partition") >= 20);
}
