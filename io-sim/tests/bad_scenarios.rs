//! Scenarios that cannot be: each is an error that names file, line and what to do.

use net_io_sim::run::Spec;
use net_io_sim::scenario::Scenario;

const GOOD: &str = r#"schema = 1
name = "x"
duration = "10s"
[topology]
nodes = [ { id = "a" }, { id = "b" }, { id = "c" }, { id = "d" } ]
[[workload]]
kind = "stream"
from = "a"
to = "b"
count = 10
[liveness]
within = "5s"
"#;

fn error(text: &str) -> (usize, String) {
    let error = Spec::new("x.toml", text).expect_err("an error");
    assert!(error.to_string().starts_with("x.toml:"), "{error}");
    (error.line, error.what)
}

fn said(text: &str, words: &str) {
    let (line, what) = error(text);
    assert!(what.contains(words), "{what}");
    assert!(line > 0, "{what}: which line?");
}

#[test]
fn the_scenario_they_are_made_of_is_good() {
    Scenario::check("x.toml", GOOD).expect("a correct scenario");
}

#[test]
fn impossible_topologies_are_told() {
    said(&GOOD.replace("duration = \"10s\"", "duration = \"0s\""), "no time");
    said(&GOOD.replace("to = \"b\"", "to = \"a\""), "no link to itself");
    said(
        &GOOD.replace("{ id = \"b\" }", "{ id = \"b\", nat = \"port-restrictd\" }"),
        "did you mean `port-restricted`?",
    );
    said(&GOOD.replace("{ id = \"b\" }", "{ id = \"a\" }"), "two nodes `a`");
    said(
        &GOOD.replace("within", "core = [\"a\", \"e\"]\nwithin"),
        "unknown node `e`",
    );
    said(
        &GOOD.replace("within", "core = [\"a\", \"c\"]\nwithin"),
        "`b` is outside the core",
    );
    said(
        &GOOD.replace("within = \"5s\"", "within = \"0s\""),
        "no time to recover",
    );
    let twice = "[[workload]]\nkind = \"connect\"\nid = \"stream-0\"\nfrom = \"a\"\nto = \"b\"\n[liveness]";
    said(&GOOD.replace("[liveness]", twice), "called `stream-0`");
    let link = "[[topology.link]]\nfrom = \"c\"\nto = \"c\"\n[[workload]]";
    said(&GOOD.replacen("[[workload]]", link, 1), "no link to itself");
    let nat = "[[topology.nat]]\nid = \"n\"\ntimeout = \"0s\"\n[[workload]]";
    said(&GOOD.replacen("[[workload]]", nat, 1), "lives for 0");
}

fn fault(keys: &str) -> String {
    format!("{GOOD}[[fault]]\n{keys}\n")
}

#[test]
fn impossible_faults_are_told() {
    said(
        &fault("kind = \"partition\"\nshape = \"ring\"\nnodes = [\"a\", \"b\", \"c\"]"),
        "fewer than four",
    );
    said(&fault("kind = \"partition\"\nshape = \"bridge\""), "needs `over`");
    said(
        &fault("kind = \"partition\"\nshape = \"bridge\"\nover = \"a\"\nfrom = [\"a\"]\nto = [\"b\"]"),
        "on neither side",
    );
    said(&fault("kind = \"partition\"\nover = \"a\""), "only a bridge");
    said(
        &fault("kind = \"partition\"\nfrom = [\"a\"]\nto = [\"a\"]"),
        "touches nothing",
    );
    said(
        &fault("kind = \"nat_rebind\"\nnat = \"a\""),
        "no node of this scenario is behind a NAT",
    );
    said(
        &fault("kind = \"crash\"\nnode = \"a\"\nat = \"1s\"\nwhen = { event = \"boot\" }"),
        "use one",
    );
    said(&fault("kind = \"crash\"\nnode = \"a\"\nafter = \"1s\""), "needs `when`");
    said(
        &fault("kind = \"crash\"\nnode = \"a\"\nwhen = { event = \"session_up\" }"),
        "did you mean `session-up`?",
    );
    said(
        &fault("kind = \"crash\"\nnode = \"a\"\nwhen = { event = \"boot\", nth = 0 }"),
        "counted from 1",
    );
    said(
        &fault("kind = \"crash\"\nnode = \"a\"\nwhen = { event = \"delivered\", workload = \"w\" }"),
        "unknown workload `w`",
    );
    said(
        &fault("kind = \"crash\"\nnode = \"a\"\nwhen = { event = \"boot\", what = \"all\" }"),
        "unknown key in [when]",
    );
    said(
        &fault("kind = \"disk\"\nnode = \"a\"\nmode = \"full\"\ncell = \"peer-epochs\""),
        "only `mode = \"rot\"`",
    );
    said(
        &fault("kind = \"disk\"\nnode = \"a\"\nmode = \"ful\""),
        "did you mean `full`?",
    );
    said(
        &fault("kind = \"loss\"\nloss = { model = \"kind\", kind = \"initiations\" }"),
        "did you mean `initiation`?",
    );
    said(
        &fault("kind = \"delay\"\ndelay = { dist = \"trace\", file = \"none.trace\" }"),
        "cannot read the trace",
    );
    said(
        &fault("kind = \"delay\"\ndelay = { dist = \"trace\", values = [\"1ms\"], file = \"x\" }"),
        "not both",
    );
}

#[test]
fn file_workloads_that_do_not_fit_are_told() {
    let files = |keys: &str| {
        GOOD.replace("kind = \"stream\"", "kind = \"file\"")
            .replace("count = 10", keys)
    };
    Scenario::check("x.toml", &files("files = 2\nsize = \"1MiB\"")).expect("a correct scenario");
    said(&files("files = 20\nsize = \"1MiB\""), "kept in memory");
    said(&files("files = 2000\nsize = \"1B\""), "at most 1000 files");
    said(&files("count = 3"), "unknown key");
    let small = files("files = 1").replace("[liveness]", "[config]\nstream_window = \"64KiB\"\n[liveness]");
    said(&small, "needs `stream_window`");
}

#[test]
fn workloads_that_do_nothing_or_too_much_are_told() {
    let count = |by: &str| GOOD.replace("count = 10", by);
    said(&count("count = 0"), "a count of 0");
    said(&count("rate = \"0/s\""), "a rate of 0");
    said(&count("count = 10\nsize = [64, 99999999999]"), "limit of 16777216 B");
    said(&count("count = 10\nsize = \"17MiB\""), "limit of 16777216 B");
    Scenario::check("x.toml", &count("count = 10\nsize = [64, 16777216]")).expect("the longest message there is");
    let echo = GOOD
        .replace("kind = \"stream\"", "kind = \"echo\"")
        .replace("count = 10", "count = 0");
    said(&echo, "a count of 0");
    said(&GOOD.replace("{ id = \"b\" }", "{ id = \"\" }"), "not empty");
}

#[test]
fn a_range_that_runs_down_is_told_with_its_line() {
    let falling = GOOD.replace("count = 10", "count = 10\nat = [\"50ms\", \"5ms\"]");
    let (line, what) = error(&falling);
    assert_eq!((line, what.as_str()), (11, "at: the range runs from 50ms down to 5ms"));
    said(&GOOD.replace("count = 10", "count = [20, 10]"), "from 20 down to 10");
    Scenario::check("x.toml", &GOOD.replace("count = 10", "count = [10, 10]")).expect("a range of one");
}

#[test]
fn a_checker_that_is_misspelt_is_told() {
    let expect = |checker: &str| format!("{GOOD}[expect]\nverdict = \"fail\"\nchecker = \"{checker}\"\n");
    said(&expect("livness"), "did you mean `liveness`?");
    Scenario::check("x.toml", &expect("liveness")).expect("a checker there is");
    Scenario::check("x.toml", &expect("my-own-rule-of-the-house")).expect("a program may have its own");
}
