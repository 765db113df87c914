//! What the reader asks for, recorded: the schema follows from the reading itself and cannot drift from it.
//!
//! A table that is read under an [`Outline`] answers every question with a value that lets the reading go on, and notes the
//! question. Where the reader chooses by a word (`kind`, `model`, `dist`, `event`), the outline takes one word per
//! reading; all words together give every key there is.
//! Invariants: a key is noted by the very call that reads it.
//! Not here: what the notes are printed as (`schema.rs`).

use std::cell::RefCell;
use std::collections::BTreeMap;

/// What a key holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Want {
    /// Any text.
    Text,
    /// A duration such as `20ms`.
    Duration,
    /// A duration that may be negative.
    SignedDuration,
    /// Bytes.
    Size,
    /// One size, or its two ends.
    SizeRange,
    /// Events per second.
    Rate,
    /// Bytes per second.
    ByteRate,
    /// A probability.
    Probability,
    /// A whole number.
    Whole,
    /// A whole number with a sign.
    Signed,
    /// True or false.
    Flag,
    /// One of these words.
    Word(Vec<String>),
    /// A text, or a list of texts.
    Texts,
    /// A list of whole numbers.
    Numbers,
    /// A list of these words.
    Words(Vec<&'static str>),
    /// A table, by its path.
    Table(String),
    /// A list of tables, by their path.
    Tables(String),
    /// A scalar of the first kind, or a table by its path.
    Either(Box<Want>, String),
}

/// A key of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The key.
    pub key: &'static str,
    /// What it holds.
    pub want: Want,
    /// Whether it must be there.
    pub required: bool,
}

/// A table as the reader sees it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shape {
    /// Its keys, in the order they are asked for.
    pub keys: Vec<Asked>,
    /// The key whose word decides which further keys there are, the words, and what each means.
    pub choice: Option<(&'static str, Words)>,
    /// Further keys, by word.
    pub cases: BTreeMap<&'static str, Vec<Asked>>,
    /// Where keys are free: what each holds.
    pub free: Option<Want>,
}

/// Words of a closed list, each with what it means in a few more words.
pub type Words = &'static [(&'static str, &'static str)];

/// Notes of readings.
#[derive(Debug, Default)]
pub struct Outline {
    notes: RefCell<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    shapes: BTreeMap<String, Shape>,
    turn: usize,
    /// The most words of any choice.
    most: usize,
}

impl Outline {
    /// Every table there is, by path, after `read` was called as often as it takes.
    pub fn complete(read: impl Fn(&Self)) -> BTreeMap<String, Shape> {
        let outline = Self::default();
        loop {
            read(&outline);
            let mut notes = outline.notes.borrow_mut();
            notes.turn += 1;
            // Choices inside choices: the inner one moves on each time the outer one is through.
            if notes.turn >= notes.most * notes.most.max(1) {
                break;
            }
        }
        outline.notes.into_inner().shapes
    }

    /// Notes a key of the table at `path`.
    pub fn note(&self, path: &str, case: Option<&'static str>, asked: Asked) {
        let mut notes = self.notes.borrow_mut();
        let shape = notes.shapes.entry(path.to_owned()).or_default();
        let keys = match case {
            Some(case) => shape.cases.entry(case).or_default(),
            None => &mut shape.keys,
        };
        match keys.iter_mut().find(|known| known.key == asked.key) {
            Some(known) => {
                known.required |= asked.required;
                // A choice is read as a word once it is known to be one.
                if known.want == Want::Text {
                    known.want = asked.want;
                }
            }
            None => keys.push(asked),
        }
    }

    /// Notes that keys are free.
    pub fn note_free(&self, path: &str, want: Want) {
        let mut notes = self.notes.borrow_mut();
        notes.shapes.entry(path.to_owned()).or_default().free = Some(want);
    }

    /// Notes a choice and takes this reading's word.
    pub fn choose(&self, path: &str, key: &'static str, words: Words) -> &'static str {
        let mut notes = self.notes.borrow_mut();
        notes.most = notes.most.max(words.len());
        let (turn, most) = (notes.turn, notes.most);
        let shape = notes.shapes.entry(path.to_owned()).or_default();
        shape.choice = Some((key, words));
        let inner = path.starts_with('#');
        let index = if inner { turn / most } else { turn };
        let word = words[index % words.len()].0;
        shape.cases.entry(word).or_default();
        word
    }
}
