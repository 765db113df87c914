//! `net cheat`, `net completions`, `net man`: what a person reads to use `net`, made from the command line's own definition.
//!
//! Invariants: pages and completions follow from `args.rs`; every line of the cheat sheet is a command that parses.
//! Not here: what error codes mean (`explain.rs`).

use std::fmt;
use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use serde::Serialize;

use crate::args::Cli;
use crate::error::{Code, Failure};
use crate::output::{Out, Record};

/// Commands of everyday use: what one wants, and what one types.
const CHEAT: &[(&str, &[(&str, &str)])] = &[
    (
        "Files",
        &[
            ("net recv", "receive into this directory; prints what the sender runs"),
            (
                "net send FILE DIR TICKET",
                "send files and directories; run again, it goes on",
            ),
            (
                "net recv DIR --keep --max 2G",
                "receive again and again, at most 2 GiB at once",
            ),
            ("net recv DIR --from ID", "receive from one identity only"),
        ],
    ),
    (
        "Streams",
        &[
            ("net listen", "wait for a peer; prints what the peer runs"),
            ("net connect TICKET", "stdin to the peer, the peer to stdout"),
            ("net listen --keep", "one peer after another"),
        ],
    ),
    (
        "A mesh",
        &[
            ("net up", "run a node; prints what others run to join it"),
            ("net join TICKET", "keep a session with another node"),
            ("net status", "how the running node stands; net top again and again"),
            ("net peers", "its sessions; net routes: whom it reaches, and how"),
            (
                "net ping NODE",
                "direct, relayed or not at all; net trace NODE: the way",
            ),
            ("net doctor", "why a path is not direct, and what would change it"),
            ("net sub NAME", "print what is published; net pub NAME publishes stdin"),
            ("net config example", "a configuration to begin with; net config check"),
        ],
    ),
    (
        "Who and where",
        &[
            ("net ping TICKET", "round trip, path and loss"),
            ("net netcheck", "what this host can do: UDP, offloads, multicast"),
            ("net id show", "this node's identity, for --allow and --from"),
            ("net key new FILE", "the key of a closed network"),
            ("net listen --network-key FILE", "only for those who have the key"),
        ],
    ),
    (
        "Help",
        &[
            ("net explain CODE", "what an error code means, offline"),
            ("net demo", "see it work over a bad network, and proved in simulation"),
            (
                "net completions bash",
                "completions; net man --dir DIR writes the pages",
            ),
        ],
    ),
];

/// `net cheat`
pub fn cheat(out: Out) -> Result<(), Failure> {
    out.result(&Sheet {
        lines: CHEAT
            .iter()
            .flat_map(|(about, lines)| lines.iter().map(|(command, does)| Line { about, command, does }))
            .collect(),
    })
}

#[derive(Serialize)]
struct Line {
    about: &'static str,
    command: &'static str,
    does: &'static str,
}

#[derive(Serialize)]
struct Sheet {
    lines: Vec<Line>,
}

impl fmt::Display for Sheet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut about = "";
        for (at, line) in self.lines.iter().enumerate() {
            if line.about != about {
                let gap = if at == 0 { "" } else { "\n\n" };
                write!(f, "{gap}{}", line.about)?;
                about = line.about;
            }
            write!(f, "\n  {:<32}{}", line.command, line.does)?;
        }
        Ok(())
    }
}

impl Record for Sheet {
    const KIND: &'static str = "cheat";
}

/// `net completions`
pub fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    generated(|text| {
        clap_complete::generate(shell, &mut Cli::command(), "net", text);
        Ok(())
    })
}

/// `net man`
pub fn pages(command: Option<&str>, dir: Option<&Path>) -> Result<(), Failure> {
    let mut all = Cli::command();
    all.build();
    if let Some(dir) = dir {
        return std::fs::create_dir_all(dir)
            .and_then(|()| clap_mangen::generate_to(all, dir))
            .map_err(|error| Failure::file("write manual pages to", dir, &error));
    }
    let page = match command {
        None => all,
        Some(name) => {
            // Once built, a command knows its whole name: net-send.
            let found = all.find_subcommand(name).cloned();
            found
                .ok_or_else(|| Failure::new(Code::Usage, format!("there is no command {name:?}")).next("net --help"))?
        }
    };
    generated(|text| clap_mangen::Man::new(page).render(text))
}

/// Prints what a generator writes; whole, because generators panic on a broken pipe.
fn generated(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Result<(), Failure> {
    let mut text = Vec::new();
    write(&mut text)
        .and_then(|()| io::stdout().write_all(&text))
        .map_err(|error| Failure::stdio("write to stdout", &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn every_line_of_the_cheat_sheet_parses() {
        let id = "5866666666666666666666666666666666666666666666666666666666666666";
        for (_, lines) in CHEAT {
            for (command, _) in *lines {
                let words = command.split(' ').map(|word| if word == "ID" { id } else { word });
                let parsed = Cli::try_parse_from(words);
                assert!(
                    parsed.is_ok(),
                    "{command}: {}",
                    parsed.err().map_or_else(String::new, |error| error.to_string())
                );
            }
        }
    }
}
