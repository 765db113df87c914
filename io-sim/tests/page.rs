//! The page of `netsim trace` in a real browser. Where chromium is not installed these tests say so and prove nothing.

mod browser;

use std::path::{Path, PathBuf};

use browser::Browser;
use net_io_sim::history::Fact;
use net_io_sim::kernel::ClearKernel;
use net_io_sim::run::{Spec, Verdict, run_recorded};
use net_io_sim::trace::{About, html};
use serde_json::json;

/// A run with every kind of trouble that fails: its bound on latency cannot be kept. Names are as hostile as they may be.
const FAILING: &str = r#"
schema = 1
name = "</script><script>window.pwned = 1</script><img src=x onerror='window.pwned = 2'>"
duration = "20s"
[topology]
nodes = [ { id = "alice" }, { id = "bob" }, { id = "<b>carol" } ]
[topology.default_link]
delay = { dist = "normal", mean = "20ms", sd = "4ms", min = "1ms" }
loss = 0.08
reorder = 0.1
dup = 0.06
corrupt = 0.04
[[workload]]
kind = "stream"
from = "alice"
to = "bob"
count = 150
rate = "50/s"
size = [100, 2000]
[[workload]]
kind = "stream"
from = "<b>carol"
to = "bob"
count = 50
rate = "20/s"
size = [100, 5000]
[[fault]]
kind = "partition"
id = "cut"
at = "1s"
for = "500ms"
from = ["alice"]
to = ["bob"]
[[fault]]
kind = "pause"
id = "nap"
node = "bob"
at = "2s"
for = "300ms"
[[adversary]]
kind = "replay"
id = "mallory"
from = "alice"
to = "bob"
at = "500ms"
count = 50
rate = "20/s"
[check]
slo = { "delivery.p99" = "1ms" }
"#;

/// Writes the page of a run; answers its file, and what it is about.
fn page(name: &str, text: &str, seed: u64) -> (PathBuf, About, net_io_sim::history::History) {
    let spec = Spec::new(format!("{name}.toml"), text).expect("a correct scenario");
    let (report, history) = run_recorded::<ClearKernel>(&spec, seed, 1_000_000, false);
    let history = history.expect("the scenario can be read");
    let about = About::new(&report, "clear");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.html", std::process::id()));
    std::fs::write(&file, html(&history, &about)).expect("the page can be written");
    (file, about, history)
}

fn id_of(history: &net_io_sim::history::History, wanted: impl Fn(&Fact) -> bool) -> u64 {
    history
        .iter()
        .find(|entry| wanted(&entry.what))
        .expect("such a thing happened")
        .id
}

#[test]
fn a_failing_run_opens_at_its_violation_without_a_network_and_runs_no_text_of_the_scenario() {
    let Some(mut browser) = Browser::start("violation") else {
        return;
    };
    let (file, about, history) = page("violation", FAILING, 3);
    assert_eq!(about.verdict, Verdict::Fail);
    browser.open(&file, "");
    let violation = history.violation().expect("it fails");
    assert_eq!(browser.number("netsimTrace.selected"), violation.id as f64);
    assert_eq!(browser.text("document.getElementById('verdict').textContent"), "fail");
    assert_eq!(browser.text("document.getElementById('checker').textContent"), "slo");
    let because = browser.text("document.getElementById('because').textContent");
    assert!(because.contains("delivery.p99 is "), "{because}");
    let facts = browser.text("document.getElementById('facts').textContent");
    assert!(
        facts.contains("seed3") && facts.contains(&about.digest[..16]),
        "{facts}"
    );
    let detail = browser.text("document.getElementById('detail').textContent");
    assert!(detail.contains("VIOLATION of slo: delivery.p99 is"), "{detail}");
    assert!(
        browser
            .text("document.getElementById('title').textContent")
            .starts_with("</script>")
    );
    assert_eq!(browser.evaluate("window.pwned === undefined"), json!(true));
    assert_eq!(browser.evaluate("document.images.length"), json!(0));
    let foreign: Vec<_> = browser
        .requests
        .iter()
        .filter(|url| !url.starts_with("file://") && *url != "about:blank")
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    assert_eq!(
        browser.requests.iter().filter(|url| url.starts_with("file://")).count(),
        1,
        "{:?}",
        browser.requests
    );
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn every_word_of_the_page_is_that_of_the_command_line() {
    let Some(mut browser) = Browser::start("words") else {
        return;
    };
    let (file, _, history) = page("words", FAILING, 4);
    browser.open(&file, "");
    let words = browser.evaluate("Array.from({ length: netsimTrace.count }, (_, id) => netsimTrace.words(id))");
    let words = words.as_array().expect("a list");
    assert_eq!(words.len(), history.len());
    for (entry, words) in history.iter().zip(words) {
        assert_eq!(Some(history.text(entry).as_str()), words.as_str());
    }
}

#[test]
fn selecting_an_event_lights_its_cone_and_the_address_leads_back_to_it() {
    let Some(mut browser) = Browser::start("cone") else {
        return;
    };
    let (file, _, history) = page("cone", FAILING, 3);
    let message = history
        .iter()
        .rev()
        .find(|entry| matches!(entry.what, Fact::Message { .. }));
    let id = message.expect("messages arrive").id;
    browser.open(&file, &format!("#e={id}"));
    assert_eq!(browser.number("netsimTrace.selected"), id as f64);
    let cone = history.cone(id);
    assert!(cone.len() > 3);
    assert_eq!(browser.evaluate("netsimTrace.cone"), json!(cone));
    let shown = browser.text("document.getElementById('tab-cone').textContent");
    assert_eq!(shown, format!("Causal cone{}", cone.len()));

    // Its cause by key, and by the link in the panel.
    browser.press("p");
    let cause = history.get(id).and_then(|entry| entry.cause).expect("it has one");
    assert_eq!(browser.number("netsimTrace.selected"), cause as f64);
    assert_eq!(browser.text("location.hash"), format!("#e={cause}"));
    browser.press("n");
    assert_ne!(browser.number("netsimTrace.selected"), cause as f64);
    browser.evaluate("document.querySelector('#detail .link').click()");
    assert_eq!(browser.number("netsimTrace.selected"), cause as f64);

    // Only the cone: what is shown is what it holds.
    let all = browser.number("netsimTrace.shown");
    browser.press("c");
    assert_eq!(browser.number("netsimTrace.shown"), history.cone(cause).len() as f64);
    browser.press("c");
    assert_eq!(browser.number("netsimTrace.shown"), all);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn a_click_on_a_mark_selects_it() {
    let Some(mut browser) = Browser::start("click") else {
        return;
    };
    let (file, _, history) = page("click", FAILING, 3);
    let dropped = id_of(&history, |fact| matches!(fact, Fact::Dropped { .. }));
    browser.open(&file, &format!("#e={dropped}"));
    for _ in 0..8 {
        browser.press("+");
    }
    browser.evaluate(&format!("netsimTrace.select({dropped})"));
    browser.press("Escape");
    assert_eq!(browser.evaluate("netsimTrace.selected"), json!(null));
    browser.evaluate("new Promise(requestAnimationFrame)");
    let place = browser.evaluate(&format!(
        "(() => {{ const box = document.getElementById('chart').getBoundingClientRect(), p = netsimTrace.point({dropped}); return [box.left + p[0], box.top + p[1]]; }})()"
    ));
    let (x, y) = (
        place[0].as_f64().expect("a number"),
        place[1].as_f64().expect("a number"),
    );
    browser.mouse("mouseMoved", x, y);
    assert_eq!(browser.evaluate("document.getElementById('tip').hidden"), json!(false));
    browser.click(x, y);
    assert_eq!(browser.number("netsimTrace.selected"), dropped as f64);
}

#[test]
fn filters_reduce_what_is_shown() {
    let Some(mut browser) = Browser::start("filters") else {
        return;
    };
    let (file, _, history) = page("filters", FAILING, 3);
    browser.open(&file, "");
    let all = history.len() as f64;
    assert_eq!(browser.number("netsimTrace.shown"), all);
    let count = |wanted: &dyn Fn(&net_io_sim::history::Entry) -> bool| {
        history.iter().filter(|entry| wanted(entry)).count() as f64
    };

    browser.evaluate("document.querySelector('#kinds input[data-name=turn]').click()");
    let turns = count(&|entry| matches!(entry.what, Fact::Turn { .. }));
    assert!(turns > 0.0);
    assert_eq!(browser.number("netsimTrace.shown"), all - turns);
    let told = browser.text("document.getElementById('shown').textContent");
    assert!(told.ends_with("events") && told.contains(" of "), "{told}");
    browser.evaluate("document.querySelector('#kinds .all button').click()");
    assert_eq!(browser.number("netsimTrace.shown"), all);

    browser.evaluate("document.querySelector('#nodes input[data-name=alice]').click()");
    assert_eq!(
        browser.number("netsimTrace.shown"),
        all - count(&|entry| entry.node == Some(0))
    );
    browser.evaluate("document.querySelector('#nodes .all button').click()");

    let search = |browser: &mut Browser, text: &str| {
        browser.evaluate(&format!(
            "(() => {{ const box = document.getElementById('search'); box.value = {}; box.dispatchEvent(new Event('input')); }})()",
            json!(text)
        ));
    };
    search(&mut browser, "Dropped: PARTITION");
    let cut = count(&|entry| matches!(entry.what, Fact::Dropped { cause: "partition", .. }));
    assert!(cut > 0.0);
    browser.wait(&format!("netsimTrace.shown === {cut}"));
    search(&mut browser, "no such words anywhere");
    browser.wait("netsimTrace.shown === 0");
    search(&mut browser, "");
    browser.wait(&format!("netsimTrace.shown === {all}"));
    search(&mut browser, "#7");
    browser.wait("netsimTrace.selected === 7");
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn scrubbing_zooming_and_playing_move_the_moment_and_the_view() {
    let Some(mut browser) = Browser::start("scrub") else {
        return;
    };
    let (file, ..) = page("scrub", FAILING, 3);
    browser.open(&file, "");
    let clock = browser.text("document.getElementById('clock').textContent");
    browser.evaluate(
        "(() => { const bar = document.getElementById('scrub'); bar.value = 10000; bar.dispatchEvent(new Event('input')); })()",
    );
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
    assert_ne!(browser.text("document.getElementById('clock').textContent"), clock);
    let inside = "netsimTrace.view.t0 <= netsimTrace.view.moment && netsimTrace.view.moment <= netsimTrace.view.t1";
    assert_eq!(browser.evaluate(inside), json!(true), "the view follows");

    let span = "netsimTrace.view.t1 - netsimTrace.view.t0";
    let before = browser.number(span);
    browser.press("+");
    assert!(browser.number(span) < before);
    browser.press("0");
    assert!(browser.number(span) > before, "the whole run");
    browser.evaluate("document.getElementById('zoom-in').click()");
    browser.evaluate("document.getElementById('zoom-in').click()");

    // Dragging the diagram to the right shows what was before.
    let t0 = browser.number("netsimTrace.view.t0");
    let place = browser.evaluate("(() => { const b = document.getElementById('chart').getBoundingClientRect(); return [b.left + 500, b.bottom - 6]; })()");
    let (x, y) = (
        place[0].as_f64().expect("a number"),
        place[1].as_f64().expect("a number"),
    );
    browser.mouse("mousePressed", x, y);
    browser.mouse("mouseMoved", x + 120.0, y);
    browser.mouse("mouseReleased", x + 120.0, y);
    assert!(browser.number("netsimTrace.view.t0") < t0);

    let moment = browser.number("netsimTrace.view.moment");
    browser.press(" ");
    browser.wait(&format!("netsimTrace.view.moment > {moment}"));
    assert_eq!(
        browser.text("document.getElementById('play').getAttribute('aria-pressed')"),
        "true"
    );
    browser.press(" ");
    assert_eq!(
        browser.text("document.getElementById('play').getAttribute('aria-label')"),
        "Play"
    );

    // Steps go from event to event.
    browser.evaluate("netsimTrace.select(20)");
    browser.press("ArrowRight");
    assert_eq!(browser.number("netsimTrace.selected"), 21.0);
    browser.press("ArrowLeft");
    browser.press("ArrowLeft");
    assert_eq!(browser.number("netsimTrace.selected"), 19.0);
    browser.press("v");
    assert_eq!(
        browser.evaluate("netsimTrace.selected === netsimTrace.violation"),
        json!(true)
    );
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn dark_and_light_follow_the_system_and_the_switch() {
    let Some(mut browser) = Browser::start("dark") else {
        return;
    };
    let (file, ..) = page("dark", FAILING, 3);
    browser.prefer("light");
    browser.open(&file, "");
    let corner = "(() => { const c = document.getElementById('chart'); return Array.from(c.getContext('2d').getImageData(4, c.height - 4, 1, 1).data).slice(0, 3); })()";
    let brightness = |browser: &mut Browser| {
        browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
        browser
            .evaluate(corner)
            .as_array()
            .expect("a pixel")
            .iter()
            .filter_map(serde_json::Value::as_u64)
            .sum::<u64>()
    };
    assert!(brightness(&mut browser) > 600);
    browser.prefer("dark");
    browser.wait("document.documentElement.dataset.theme === 'dark'");
    assert!(brightness(&mut browser) < 200, "the drawing too");
    let ground = browser.text("getComputedStyle(document.body).backgroundColor");
    browser.press("t");
    browser.wait("document.documentElement.dataset.theme === 'light'");
    assert!(brightness(&mut browser) > 600, "the switch overrules the system");
    assert_ne!(browser.text("getComputedStyle(document.body).backgroundColor"), ground);
}

#[test]
fn everything_that_can_be_pressed_has_a_name_and_a_narrow_window_works() {
    let Some(mut browser) = Browser::start("names") else {
        return;
    };
    let (file, ..) = page("names", FAILING, 3);
    browser.open(&file, "");
    let nameless = "Array.from(document.querySelectorAll('button, input, select, canvas:not([aria-hidden]), [role=listbox], [role=toolbar]')).filter((e) => !(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && Array.from(e.labels).some((l) => l.textContent.trim())))).map((e) => e.outerHTML.slice(0, 80))";
    assert_eq!(browser.evaluate(nameless), json!([]));
    browser.press("?");
    assert_eq!(browser.evaluate("document.getElementById('helpbox').open"), json!(true));
    browser.press("Escape");
    browser.wait("!document.getElementById('helpbox').open");
    browser.size(700, 900);
    browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
    assert!(browser.number("document.documentElement.scrollWidth") <= 700.0);
    assert!(browser.number("document.getElementById('chart').getBoundingClientRect().height") > 80.0);
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

#[test]
fn a_cut_history_and_an_empty_one_open_too() {
    let Some(mut browser) = Browser::start("cut") else {
        return;
    };
    let spec = Spec::new("cut.toml", FAILING).expect("a correct scenario");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cut-{}.html", std::process::id()));
    let (report, history) = run_recorded::<ClearKernel>(&spec, 3, 50, false);
    let history = history.expect("the scenario can be read");
    std::fs::write(&file, html(&history, &About::new(&report, "clear"))).expect("the page can be written");
    browser.open(&file, "");
    assert_eq!(browser.number("netsimTrace.count"), 50.0);
    let facts = browser.text("document.getElementById('facts').textContent");
    assert!(facts.contains("the last of "), "{facts}");
    assert_eq!(
        browser.evaluate("netsimTrace.selected === netsimTrace.violation"),
        json!(true)
    );

    let quiet = "schema = 1\nname = \"quiet\"\nduration = \"1s\"\n[topology]\nnodes = [ { id = \"a\" } ]\n";
    let (file, about, _) = page("quiet", quiet, 1);
    assert_eq!(about.verdict, Verdict::Pass);
    browser.open(&file, "");
    assert_eq!(
        browser.evaluate("document.getElementById('failure').hidden"),
        json!(true)
    );
    assert!(browser.complaints.is_empty(), "{:?}", browser.complaints);
}

/// Prints how long a page of a million events takes until it is drawn. A measurement, not a test: run it by name.
#[test]
#[ignore = "a measurement: cargo test -p net-io-sim --test page -- --ignored --nocapture"]
fn opening_a_page_of_a_million_events() {
    let Some(mut browser) = Browser::start("million") else {
        return;
    };
    let nodes = "abcdefgh";
    let mut text = String::from("schema = 1\nname = \"million\"\nduration = \"80s\"\n[topology]\nnodes = [ ");
    nodes
        .chars()
        .for_each(|node| text.push_str(&format!("{{ id = \"{node}\" }}, ")));
    text.push_str(
        "]\n[topology.default_link]\ndelay = { dist = \"normal\", mean = \"20ms\", sd = \"4ms\", min = \"1ms\" }\n",
    );
    text.push_str("loss = 0.01\nreorder = 0.02\ndup = 0.005\n[check]\nslo = { \"delivery.p99\" = \"1ms\" }\n");
    for (from, to) in nodes.chars().zip(nodes.chars().cycle().skip(1)) {
        text.push_str(&format!(
            "[[workload]]\nkind = \"stream\"\nfrom = \"{from}\"\nto = \"{to}\"\ncount = 27_000\nrate = \"450/s\"\nsize = [50, 1000]\n"
        ));
    }
    let (file, _, history) = page("million", &text, 1);
    assert_eq!(history.len(), 1_000_000, "the run is long enough");
    let bytes = std::fs::metadata(&file).expect("the page was written").len();
    let mut times = Vec::new();
    for _ in 0..7 {
        browser.open(&file, "");
        times.push(browser.number("netsimTrace.drawnMs"));
        browser.press("0");
        browser.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
    }
    times.sort_by(f64::total_cmp);
    assert_eq!(browser.number("netsimTrace.shown"), 1_000_000.0);
    println!(
        "{} events, {} KB: drawn after {:.0} ms (median of 7; {:.0} to {:.0})",
        history.len(),
        bytes / 1_000,
        times[3],
        times[0],
        times[6]
    );
}
