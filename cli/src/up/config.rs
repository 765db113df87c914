//! The configuration of `net up`: TOML, every key with a place and a meaning.
//!
//! Invariants: an unknown key or a value out of its range is an error that names file and line, and the nearest key there is;
//! what the file leaves out has the default that `net config example` shows; nothing secret stands in it.
//! Not here: what is done with it (`mod.rs`), command-line options (`args.rs`).

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use net_io_real::{EntityId, MeshConfig, Ticket};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::args::{self, Bind};
use crate::error::{Code, Failure};

/// No configuration is longer, in bytes.
const MAX_LEN: u64 = 1 << 20;
/// Peers that it may join.
const MAX_JOINS: usize = 1_024;

/// What `net config example` prints; the tests hold that it is what is taken where nothing is given.
pub const EXAMPLE: &str = r#"# Configuration of `net up`. Every line that starts with `#` shows a default or an example.

# Where to listen: ADDRESS, :PORT or ADDRESS:PORT. By default all addresses, and the port used last or any free one.
#bind = ":4400"

# Addresses for tickets instead of those that this host seems to have, as behind a port forwarding.
#advertise = ["203.0.113.7:4400"]

# The file with the key of a closed network (`net key new FILE`). Without one it is the open network, which keeps nobody out.
#network_key = "/etc/net/network.key"

# Only these identities may hold sessions (`net id show` prints one). Without the list everybody of the network may.
#allow = ["3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"]

# Where prometheus may fetch figures: `:PORT` means loopback. By default nowhere.
#metrics = ":9464"

# A session is given up when nothing was heard for so many seconds.
idle_timeout = 45

[join]
# Tickets of nodes to be connected with, in this file or in files of their own.
tickets = []
ticket_files = []
# Whether to join the neighbours of the last run again.
cached = true
# Whether to find nodes of the same network on the local one by multicast, and to be found by them.
multicast = false

# Nodes without a ticket: who, and where.
#[[join.peers]]
#id = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
#addresses = ["192.0.2.1:4400"]

[mesh]
# Seconds between two pingwaves of ours (1 to 60), and between two heartbeats to a silent neighbour (0.01 to 60).
pingwave = 5
heartbeat = 0.5
# Hops over which we are heard of (1 to 16).
radius = 16
# Whether we forward packets of others. Left out, members of a closed network and those on the list `allow` are relayed for,
# and where whoever has the ticket is admitted nobody is.
#relays = true

[channels]
# A subscriber that takes nothing for so many seconds is dropped.
patience = 30
"#;

/// What a node is run with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    pub bind: Option<Bind>,
    pub advertise: Vec<SocketAddr>,
    pub network_key: Option<PathBuf>,
    pub allow: Vec<EntityId>,
    pub metrics: Option<SocketAddr>,
    pub idle_timeout: Duration,
    pub tickets: Vec<Ticket>,
    pub ticket_files: Vec<PathBuf>,
    pub peers: Vec<(EntityId, Vec<SocketAddr>)>,
    pub cached: bool,
    pub multicast: bool,
    pub mesh: MeshConfig,
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: None,
            advertise: Vec::new(),
            network_key: None,
            allow: Vec::new(),
            metrics: None,
            idle_timeout: Duration::from_secs(45),
            tickets: Vec::new(),
            ticket_files: Vec::new(),
            peers: Vec::new(),
            cached: true,
            multicast: false,
            mesh: MeshConfig::default(),
            patience: Duration::from_secs(30),
        }
    }
}

/// Where the configuration lies unless told otherwise.
pub fn default_path() -> Result<PathBuf, Failure> {
    use etcetera::BaseStrategy as _;
    let base = etcetera::choose_base_strategy().map_err(|error| {
        Failure::new(Code::Start, format!("there is no home directory: {error}")).next("--config FILE")
    })?;
    Ok(base.config_dir().join("net").join("up.toml"))
}

/// The configuration in `given`, which must exist, or in the default place, where there need be none. Answers also which file
/// was read.
pub fn load(given: Option<&Path>) -> Result<(Config, Option<PathBuf>), Failure> {
    let path = match given {
        Some(path) => path.to_path_buf(),
        None => {
            let path = default_path()?;
            match path.try_exists() {
                Ok(true) => path,
                Ok(false) => return Ok((Config::default(), None)),
                Err(error) => return Err(Failure::file("read the configuration", &path, &error)),
            }
        }
    };
    let failed = |error: std::io::Error| {
        Failure::file("read the configuration", &path, &error)
            .next("net config example      # prints one to begin with")
    };
    let file = std::fs::File::open(&path).map_err(failed)?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MAX_LEN), &mut text).map_err(failed)?;
    let config = parse(&path.display().to_string(), &text)?;
    Ok((config, Some(path)))
}

/// Reads a configuration; `file` is its name for messages.
pub fn parse(file: &str, text: &str) -> Result<Config, Failure> {
    let source = Source { file, text };
    let root = DeTable::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        source.error(&span, error.message().to_owned())
    })?;
    let mut config = Config::default();
    let mut table = Table::new(source, "the configuration", root.get_ref());
    table.read("bind", |value| config.bind = Some(value), args::bind)?;
    table.read("metrics", |value| config.metrics = Some(value), args::metrics)?;
    table.read(
        "network_key",
        |value| config.network_key = Some(value),
        |text| Ok(text.into()),
    )?;
    table.read_list("advertise", 16, |value| config.advertise.push(value), socket)?;
    table.read_list("allow", 4_096, |value| config.allow.push(value), args::entity)?;
    table.number("idle_timeout", 1.0..=86_400.0, |value| {
        config.idle_timeout = Duration::from_secs_f64(value);
    })?;
    if let Some(join) = table.table("join", "[join]")? {
        read_join(join, &mut config)?;
    }
    if let Some(mesh) = table.table("mesh", "[mesh]")? {
        read_mesh(mesh, &mut config.mesh)?;
    }
    if let Some(mut channels) = table.table("channels", "[channels]")? {
        channels.number("patience", 0.1..=3_600.0, |value| {
            config.patience = Duration::from_secs_f64(value);
        })?;
        channels.finish()?;
    }
    table.finish()?;
    Ok(config)
}

fn read_join(mut table: Table<'_>, config: &mut Config) -> Result<(), Failure> {
    let ticket = |text: &str| {
        let ticket = Ticket::parse(text).map_err(|error| error.to_string())?;
        if ticket.is_secret() {
            return Err("a ticket that starts with netkey1 holds the network key: put it in a private file of its own and name \
                        that in `ticket_files`"
                .to_owned());
        }
        Ok(ticket)
    };
    table.read_list("tickets", MAX_JOINS, |value| config.tickets.push(value), ticket)?;
    let path = |text: &str| Ok(PathBuf::from(text));
    table.read_list("ticket_files", MAX_JOINS, |value| config.ticket_files.push(value), path)?;
    table.boolean("cached", |value| config.cached = value)?;
    table.boolean("multicast", |value| config.multicast = value)?;
    for mut peer in table.tables("peers", "[[join.peers]]", MAX_JOINS)? {
        let (mut id, mut addresses) = (None, Vec::new());
        peer.read("id", |value| id = Some(value), args::entity)?;
        peer.read_list("addresses", 16, |value| addresses.push(value), socket)?;
        let Some(id) = id else {
            return Err(peer.error("[[join.peers]] has no `id`: say who is to be found there".to_owned()));
        };
        if addresses.is_empty() {
            return Err(peer.error("[[join.peers]] has no `addresses`: say where to find it".to_owned()));
        }
        peer.finish()?;
        config.peers.push((id, addresses));
    }
    table.finish()
}

fn read_mesh(mut table: Table<'_>, mesh: &mut MeshConfig) -> Result<(), Failure> {
    let duration = |seconds: f64| net_kernel::base::Duration::from_millis((seconds * 1e3).round() as u64);
    table.number("pingwave", 1.0..=60.0, |value| mesh.pingwave = duration(value))?;
    table.number("heartbeat", 0.01..=60.0, |value| mesh.heartbeat = duration(value))?;
    table.integer("radius", 1..=16, |value| mesh.radius = value)?;
    table.boolean("relays", |value| mesh.relays = Some(value))?;
    table.finish()
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write ADDRESS:PORT or [IPV6]:PORT, with numbers only".into())
}

#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn error(&self, span: &Range<usize>, what: impl std::fmt::Display) -> Failure {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Failure::new(Code::Config, format!("{}:{line}: {what}", self.file))
            .next("net config example      # prints every key with its meaning")
    }
}

/// One table, and the keys that were asked for.
struct Table<'a> {
    source: Source<'a>,
    name: &'static str,
    span: Range<usize>,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    const fn new(source: Source<'a>, name: &'static str, entries: &'a DeTable<'a>) -> Self {
        Self {
            source,
            name,
            span: 0..0,
            entries,
            known: Vec::new(),
        }
    }

    fn error(&self, what: String) -> Failure {
        self.source.error(&self.span, what)
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.known.push(key);
        self.entries.get(key)
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str) -> Failure {
        self.source
            .error(&value.span(), format!("`{key}` in {}: {wanted}", self.name))
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        set: impl FnOnce(T),
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<(), Failure> {
        let Some(value) = self.take(key) else { return Ok(()) };
        let Some(text) = value.get_ref().as_str() else {
            return Err(self.wrong(key, value, "write a text in quotes"));
        };
        set(parse(text).map_err(|why| self.wrong(key, value, &why))?);
        Ok(())
    }

    fn read_list<T>(
        &mut self,
        key: &'static str,
        most: usize,
        mut push: impl FnMut(T),
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<(), Failure> {
        let Some(value) = self.take(key) else { return Ok(()) };
        let Some(list) = value.get_ref().as_array() else {
            return Err(self.wrong(key, value, "write a list of texts: [\"...\"]"));
        };
        if list.len() > most {
            return Err(self.wrong(key, value, &format!("at most {most} are taken")));
        }
        for item in list.iter() {
            let Some(text) = item.get_ref().as_str() else {
                return Err(self.wrong(key, item, "write a list of texts: [\"...\"]"));
            };
            push(parse(text).map_err(|why| self.wrong(key, item, &why))?);
        }
        Ok(())
    }

    fn number(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<f64>,
        set: impl FnOnce(f64),
    ) -> Result<(), Failure> {
        let Some(value) = self.take(key) else { return Ok(()) };
        let text = match value.get_ref() {
            DeValue::Integer(number) => number.as_str(),
            DeValue::Float(number) => number.as_str(),
            DeValue::String(_) | DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                ""
            }
        };
        match text.parse::<f64>() {
            Ok(number) if range.contains(&number) => set(number),
            Ok(_) | Err(_) => {
                let wanted = format!("write a number from {} to {}", range.start(), range.end());
                return Err(self.wrong(key, value, &wanted));
            }
        }
        Ok(())
    }

    fn integer(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u8>,
        set: impl FnOnce(u8),
    ) -> Result<(), Failure> {
        let Some(value) = self.take(key) else { return Ok(()) };
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|number| number.as_str().parse().ok());
        match number.filter(|number| range.contains(number)) {
            Some(number) => set(number),
            None => {
                let wanted = format!("write a whole number from {} to {}", range.start(), range.end());
                return Err(self.wrong(key, value, &wanted));
            }
        }
        Ok(())
    }

    fn boolean(&mut self, key: &'static str, set: impl FnOnce(bool)) -> Result<(), Failure> {
        let Some(value) = self.take(key) else { return Ok(()) };
        match value.get_ref().as_bool() {
            Some(value) => set(value),
            None => return Err(self.wrong(key, value, "write true or false")),
        }
        Ok(())
    }

    fn table(&mut self, key: &'static str, name: &'static str) -> Result<Option<Self>, Failure> {
        let Some(value) = self.take(key) else { return Ok(None) };
        match value.get_ref().as_table() {
            Some(entries) => Ok(Some(Table {
                span: value.span(),
                ..Table::new(self.source, name, entries)
            })),
            None => Err(self.wrong(key, value, "write a table")),
        }
    }

    fn tables(&mut self, key: &'static str, name: &'static str, most: usize) -> Result<Vec<Self>, Failure> {
        let Some(value) = self.take(key) else {
            return Ok(Vec::new());
        };
        let list = value.get_ref().as_array().filter(|list| list.len() <= most);
        let Some(list) = list else {
            return Err(self.wrong(key, value, &format!("write at most {most} tables: {name}")));
        };
        let mut tables = Vec::new();
        for item in list.iter() {
            let Some(entries) = item.get_ref().as_table() else {
                return Err(self.wrong(key, item, &format!("write tables: {name}")));
            };
            tables.push(Table {
                span: item.span(),
                ..Table::new(self.source, name, entries)
            });
        }
        Ok(tables)
    }

    /// A key that nobody asked for is an error that names the nearest.
    fn finish(self) -> Result<(), Failure> {
        let unknown = self
            .entries
            .keys()
            .find(|key| !self.known.iter().any(|known| key.get_ref() == known));
        let Some(key) = unknown else { return Ok(()) };
        let nearest = self.known.iter().min_by_key(|known| distance(key.get_ref(), known));
        let hint = match nearest {
            Some(near) if distance(key.get_ref(), near) <= near.len().max(3) / 2 => format!("did you mean `{near}`?"),
            Some(_) | None => format!("known are {}", self.known.join(", ")),
        };
        let what = format!("unknown key `{}` in {}; {hint}", key.get_ref(), self.name);
        Err(self.source.error(&key.span(), what))
    }
}

/// How many characters must be put in, taken out or replaced to make one word of another (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let failure = parse("up.toml", text).expect_err("it is wrong");
        assert_eq!(failure.code, Code::Config);
        failure.message
    }

    #[test]
    fn the_example_is_what_is_taken_where_nothing_is_given() {
        assert_eq!(parse("example", EXAMPLE).expect("it is right"), Config::default());
        assert_eq!(parse("empty", "").expect("it is right"), Config::default());
    }

    #[test]
    fn every_example_that_is_commented_out_is_right_too() {
        let key_line = |line: &str| {
            let rest = line.strip_prefix('#')?;
            (rest.starts_with("[[") || rest.split(' ').nth(1) == Some("=")).then(|| rest.to_owned())
        };
        let text: Vec<String> = EXAMPLE
            .lines()
            .map(|line| key_line(line).unwrap_or_else(|| line.to_owned()))
            .collect();
        let config = parse("example", &text.join("\n")).expect("it is right");
        assert_eq!(config.bind, Some(Bind { ip: None, port: 4400 }));
        assert_eq!(config.metrics, Some(([127, 0, 0, 1], 9464).into()));
        assert_eq!(
            (config.advertise.len(), config.allow.len(), config.peers.len()),
            (1, 1, 1)
        );
        assert!(config.network_key.is_some());
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_the_nearest_one() {
        let text = refused("bind = \":1\"\n\n[mesh]\npingwaves = 5\n");
        assert!(
            text.starts_with("up.toml:4: unknown key `pingwaves` in [mesh]; did you mean `pingwave`?"),
            "{text}"
        );
        let text = refused("colour = 1\n");
        assert!(text.contains("known are bind, metrics"), "{text}");
        let text = refused("[[join.peers]]\nid = \"\"\n");
        assert!(text.starts_with("up.toml:2: `id` in [[join.peers]]"), "{text}");
    }

    #[test]
    fn values_out_of_range_are_refused_where_they_stand() {
        for (text, line, what) in [
            ("idle_timeout = 0", 1, "write a number from 1 to 86400"),
            ("idle_timeout = \"long\"", 1, "write a number from 1 to 86400"),
            ("\nbind = 7", 2, "write a text in quotes"),
            ("bind = \"host\"", 1, "write ADDRESS"),
            ("[mesh]\nradius = 17", 2, "whole number from 1 to 16"),
            ("[mesh]\nrelays = 1", 2, "true or false"),
            ("[join]\ntickets = [\n\"net1x\"]", 3, "`tickets` in [join]"),
            ("[join]\npeers = 3", 2, "tables"),
            ("allow = [\"12\"]", 1, "64 hexadecimal"),
            ("bind = ", 1, "up.toml:1"),
            ("[[join.peers]]\naddresses = []", 1, "no `id`"),
        ] {
            let told = refused(text);
            assert!(
                told.starts_with(&format!("up.toml:{line}: ")) && told.contains(what),
                "{text}: {told}"
            );
        }
    }

    #[test]
    fn distances_count_changes() {
        for (a, b, far) in [
            ("", "abc", 3),
            ("bind", "bind", 0),
            ("bnid", "bind", 2),
            ("radios", "radius", 1),
        ] {
            assert_eq!(distance(a, b), far, "{a} {b}");
        }
    }
}
