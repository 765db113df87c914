//! Tables of a scenario file read key by key, so that every error names file, line and the nearest key.
//!
//! Invariants: a key that nobody asked for is an error; in a specification a scalar may be a range `[low, high]`, of
//! which the reader sees the low end.
//! Not here: which keys there are (`read.rs`), drawing from ranges (`resolve.rs`).

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::outline::{Asked, Outline, Want, Words};
use super::units;

/// What is wrong with a scenario file, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScenarioError {
    /// The file, as it was named.
    pub file: String,
    /// Counted from 1; 0 where the whole file is meant.
    pub line: usize,
    /// What is wrong and what to do.
    pub what: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.what),
            line => write!(f, "{}:{line}: {}", self.file, self.what),
        }
    }
}

impl std::error::Error for ScenarioError {}

/// Shorthand.
pub type Read<T> = Result<T, ScenarioError>;

/// The file being read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name for messages.
    pub file: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Whether scalars must be literals.
    pub resolved: bool,
    /// Where what is asked for is noted instead of read.
    pub outline: Option<&'a Outline>,
}

impl Source<'_> {
    /// An error at a place in the file.
    pub fn error(&self, span: &Range<usize>, what: impl Into<String>) -> ScenarioError {
        let line = self
            .text
            .get(..span.start)
            .map_or(0, |before| before.matches('\n').count() + 1);
        ScenarioError {
            file: self.file.to_owned(),
            line,
            what: what.into(),
        }
    }
}

/// One table and the keys that were asked for so far.
#[derive(Debug)]
pub struct Table<'a> {
    source: Source<'a>,
    name: String,
    span: Range<usize>,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
    /// Where it stands in an outline, and which case of it is read.
    path: String,
    case: Option<&'static str>,
}

/// A scalar, or a table in its place.
#[derive(Debug)]
pub enum Either<'a, T> {
    /// The scalar.
    Scalar(T),
    /// The table.
    Table(Table<'a>),
}

impl<'a> Table<'a> {
    /// A table called `name` in messages.
    pub fn new(source: Source<'a>, name: impl Into<String>, span: Range<usize>, entries: &'a DeTable<'a>) -> Self {
        Self {
            source,
            name: name.into(),
            span,
            entries,
            known: Vec::new(),
            path: String::new(),
            case: None,
        }
    }

    /// Whether it is read for its outline: no value means anything.
    pub const fn outlined(&self) -> bool {
        self.source.outline.is_some()
    }

    /// The file being read.
    pub const fn file(&self) -> &'a str {
        self.source.file
    }

    /// Whether scalars must be literals.
    pub const fn resolved(&self) -> bool {
        self.source.resolved
    }

    /// Notes a key where an outline is taken; answers whether one is.
    fn note(&mut self, key: &'static str, want: impl FnOnce() -> Want, required: bool) -> bool {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let Some(outline) = self.source.outline else {
            return false;
        };
        let want = want();
        outline.note(&self.path, self.case, Asked { key, want, required });
        true
    }

    fn below(&self, key: &str) -> String {
        // Tables of one shape that stand in many places have one name.
        match key {
            "loss" | "delay" | "when" => format!("#{key}"),
            _ => format!("{}/{key}", self.path),
        }
    }

    fn nested(&self, key: &str, name: String, span: Range<usize>, entries: &'a DeTable<'a>) -> Self {
        Self {
            path: self.below(key),
            ..Self::new(self.source, name, span, entries)
        }
    }

    /// The word that decides which further keys there are.
    pub fn choice(&mut self, key: &'static str, what: &str, words: Words) -> Read<&'static str> {
        if let Some(outline) = self.source.outline {
            self.known.push(key);
            let word = outline.choose(&self.path, key, words);
            self.case = Some(word);
            return Ok(word);
        }
        let text = self.required(key)?;
        words
            .iter()
            .map(|(word, _)| *word)
            .find(|word| *word == text)
            .ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.error_at(key, format!("unknown {what} {}", unknown(&text, &known)))
            })
    }

    /// An error about this table.
    pub fn error(&self, what: impl Into<String>) -> ScenarioError {
        self.source.error(&self.span, what)
    }

    /// An error about one key.
    pub fn error_at(&self, key: &str, what: impl Into<String>) -> ScenarioError {
        let span = self.entries.get(key).map_or_else(|| self.span.clone(), Spanned::span);
        self.source.error(&span, what)
    }

    fn raw(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.get(key)
    }

    /// A scalar's text: a string's content or a number as written.
    pub fn scalar(&mut self, key: &'static str) -> Read<Option<Cow<'a, str>>> {
        let source = self.source;
        self.raw(key)
            .map(|value| scalar_text(source, key, value, true))
            .transpose()
    }

    fn parsed<T: PartialOrd>(
        &mut self,
        key: &'static str,
        want: Want,
        example: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Read<Option<T>> {
        if self.note(key, || want, false) {
            return Ok(parse(example).ok());
        }
        let Some(text) = self.scalar(key)? else { return Ok(None) };
        let read = |text: &str| parse(text).map_err(|what| self.error_at(key, format!("{key}: {what}")));
        let low = read(&text)?;
        let ends = self.entries.get(key).and_then(|value| value.get_ref().as_array());
        if let Some(end) = ends.and_then(|ends| ends.get(1)) {
            let end = scalar_text(self.source, key, end, false)?;
            if read(&end)? < low {
                return Err(self.error_at(key, format!("{key}: the range runs from {text} down to {end}")));
            }
        }
        Ok(Some(low))
    }

    /// Text.
    pub fn text(&mut self, key: &'static str) -> Read<Option<String>> {
        if self.note(key, || Want::Text, false) {
            return Ok(Some("x".to_owned()));
        }
        let text = self.scalar(key)?.map(Cow::into_owned);
        if key == "id" && text.as_ref().is_some_and(|id| id.trim().is_empty()) {
            return Err(self.error_at(key, "an `id` names something: it is not empty"));
        }
        Ok(text)
    }

    /// Text that must be there.
    pub fn required(&mut self, key: &'static str) -> Read<String> {
        self.note(key, || Want::Text, true);
        self.text(key)?
            .ok_or_else(|| self.error(format!("{} needs `{key}`", self.name)))
    }

    /// A duration in ns.
    pub fn time(&mut self, key: &'static str) -> Read<Option<u64>> {
        self.parsed(key, Want::Duration, "1s", units::duration)
    }

    /// A duration in ns that must be there.
    pub fn need_time(&mut self, key: &'static str) -> Read<u64> {
        let time = self.time(key)?;
        self.note(key, || Want::Duration, true);
        time.ok_or_else(|| self.error(format!("{} needs `{key}`", self.name)))
    }

    /// A signed duration in ns.
    pub fn signed_time(&mut self, key: &'static str) -> Read<Option<i64>> {
        self.parsed(key, Want::SignedDuration, "1s", |text| {
            let (sign, text) = text.strip_prefix('-').map_or((1, text), |text| (-1, text));
            let ns = i64::try_from(units::duration(text)?).map_err(|_| "too long".to_owned())?;
            Ok(sign * ns)
        })
    }

    /// A size in bytes.
    pub fn size(&mut self, key: &'static str) -> Read<Option<u64>> {
        self.parsed(key, Want::Size, "1", units::bytes)
    }

    /// Events per second, in thousandths.
    pub fn rate(&mut self, key: &'static str) -> Read<Option<u64>> {
        self.parsed(key, Want::Rate, "1/s", units::per_second_milli)
    }

    /// Bytes per second.
    pub fn byte_rate(&mut self, key: &'static str) -> Read<Option<u64>> {
        self.parsed(key, Want::ByteRate, "1B/s", units::bytes_per_second)
    }

    /// A probability in parts per billion.
    pub fn probability(&mut self, key: &'static str) -> Read<Option<u64>> {
        self.parsed(key, Want::Probability, "0", units::probability)
    }

    /// A whole number.
    pub fn number(&mut self, key: &'static str) -> Read<Option<u64>> {
        self.parsed(key, Want::Whole, "1", |text| {
            text.replace('_', "")
                .parse()
                .map_err(|_| format!("`{text}` is not a whole number"))
        })
    }

    /// A whole number with a sign.
    pub fn signed(&mut self, key: &'static str) -> Read<Option<i64>> {
        self.parsed(key, Want::Signed, "1", |text| {
            text.replace('_', "")
                .parse()
                .map_err(|_| format!("`{text}` is not a whole number"))
        })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Read<bool> {
        let parsed = self.parsed(key, Want::Flag, "false", |text| {
            text.parse().map_err(|_| format!("`{text}` is not true or false"))
        })?;
        Ok(parsed.unwrap_or(false))
    }

    /// One of a closed list of words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Read<Option<T>> {
        let want = Want::Word(words.iter().map(|(word, _)| (*word).to_owned()).collect());
        let example = words.first().map_or("", |(word, _)| word);
        let found = self.parsed(key, want, example, |text| {
            words.iter().position(|(word, _)| *word == text).ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                unknown(text, &known)
            })
        })?;
        Ok(found.map(|index| words[index].1))
    }

    /// A scalar or a range of sizes, kept as a range.
    pub fn size_range(&mut self, key: &'static str) -> Read<Option<(u64, u64)>> {
        if self.note(key, || Want::SizeRange, false) {
            return Ok(Some((1, 1)));
        }
        let source = self.source;
        let Some(value) = self.raw(key) else { return Ok(None) };
        let read = |value| {
            let text = scalar_text(source, key, value, false)?;
            units::bytes(&text).map_err(|what| source.error(&value.span(), format!("{key}: {what}")))
        };
        match value.get_ref().as_array() {
            None => read(value).map(|size| Some((size, size))),
            Some(ends) if ends.len() == 2 => {
                let (low, high) = (read(&ends[0])?, read(&ends[1])?);
                if low > high {
                    return Err(self.error_at(key, format!("{key}: the range runs from {low} down to {high}")));
                }
                Ok(Some((low, high)))
            }
            Some(_) => Err(self.error_at(key, format!("{key}: a range has two ends"))),
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str) -> Read<Option<Vec<String>>> {
        if self.note(key, || Want::Texts, false) {
            return Ok(Some(Vec::new()));
        }
        let source = self.source;
        let Some(value) = self.raw(key) else { return Ok(None) };
        match value.get_ref().as_array() {
            Some(list) => list
                .iter()
                .map(|value| scalar_text(source, key, value, false).map(Cow::into_owned))
                .collect::<Read<Vec<_>>>()
                .map(Some),
            None => Ok(Some(vec![scalar_text(source, key, value, false)?.into_owned()])),
        }
    }

    /// A list of whole numbers that must be there.
    pub fn numbers(&mut self, key: &'static str) -> Read<Vec<u64>> {
        if self.note(key, || Want::Numbers, true) {
            return Ok(vec![1]);
        }
        let Some(value) = self.raw(key) else {
            return Err(self.error(format!("{} needs `{key}`, a list of whole numbers", self.name)));
        };
        let Some(list) = value.get_ref().as_array() else {
            return Err(self.error_at(key, format!("{key}: write a list of whole numbers, such as `[17, 23]`")));
        };
        let mut numbers = Vec::new();
        for value in list.iter() {
            let text = scalar_text(self.source, key, value, false)?;
            let number = text.parse();
            numbers.push(number.map_err(|_| {
                let what = format!("{key}: `{text}` is not a whole number");
                self.source.error(&value.span(), what)
            })?);
        }
        Ok(numbers)
    }

    /// A list of words out of a closed list.
    pub fn words(&mut self, key: &'static str, what: &str, words: &[&'static str]) -> Read<Vec<String>> {
        if self.note(key, || Want::Words(words.to_vec()), false) {
            return Ok(Vec::new());
        }
        let texts = self.texts(key)?.unwrap_or_default();
        match texts.iter().find(|text| !words.contains(&text.as_str())) {
            Some(text) => Err(self.error_at(key, format!("unknown {what} {}", unknown(text, words)))),
            None => Ok(texts),
        }
    }

    /// What `scalar` reads, or a table in its place.
    pub fn either<T>(
        &mut self,
        key: &'static str,
        want: Want,
        scalar: impl FnOnce(&mut Self) -> Read<Option<T>>,
    ) -> Read<Option<Either<'a, T>>> {
        let path = self.below(key);
        let either = || Want::Either(Box::new(want), path);
        if self.note(key, either, false) {
            let name = format!("[{key}]");
            return Ok(Some(Either::Table(self.nested(key, name, 0..0, self.entries))));
        }
        if self.raw(key).is_some_and(|value| value.get_ref().is_table()) {
            return Ok(self.table(key)?.map(Either::Table));
        }
        Ok(scalar(self)?.map(Either::Scalar))
    }

    /// A table under this one.
    pub fn table(&mut self, key: &'static str) -> Read<Option<Table<'a>>> {
        let path = self.below(key);
        if self.note(key, || Want::Table(path), false) {
            return Ok(Some(self.nested(key, format!("[{key}]"), 0..0, self.entries)));
        }
        let Some(value) = self.raw(key) else { return Ok(None) };
        match value.get_ref().as_table() {
            Some(entries) => Ok(Some(self.nested(key, format!("[{key}]"), value.span(), entries))),
            None => Err(self.error_at(key, format!("`{key}` must be a table"))),
        }
    }

    /// A list of tables under this one; empty where the key is missing.
    pub fn tables(&mut self, key: &'static str) -> Read<Vec<Table<'a>>> {
        let path = self.below(key);
        if self.note(key, || Want::Tables(path), false) {
            return Ok(vec![self.nested(key, format!("[[{key}]]"), 0..0, self.entries)]);
        }
        let Some(value) = self.raw(key) else {
            return Ok(Vec::new());
        };
        let Some(list) = value.get_ref().as_array() else {
            return Err(self.error_at(key, format!("`{key}` must be a list of tables: write [[{key}]]")));
        };
        let mut tables = Vec::new();
        for value in list.iter() {
            let Some(entries) = value.get_ref().as_table() else {
                return Err(self.source.error(&value.span(), format!("`{key}` must hold tables")));
            };
            tables.push(self.nested(key, format!("[[{key}]]"), value.span(), entries));
        }
        Ok(tables)
    }

    /// Every key with its scalar, for tables whose keys are free. Each scalar is what `want` says.
    pub fn pairs(&mut self, want: Want) -> Read<Vec<(String, String)>> {
        if let Some(outline) = self.source.outline {
            outline.note_free(&self.path, want);
            return Ok(Vec::new());
        }
        let mut pairs = Vec::new();
        for (key, value) in self.entries {
            let text = scalar_text(self.source, key.get_ref(), value, true)?;
            pairs.push((key.get_ref().to_string(), text.into_owned()));
        }
        Ok(pairs)
    }

    /// Ends the table: a key nobody asked for is an error that suggests the nearest known one.
    pub fn finish(self) -> Read<()> {
        match self
            .entries
            .keys()
            .find(|key| !self.known.iter().any(|known| key.get_ref() == known))
        {
            None => Ok(()),
            Some(key) => {
                let what = format!("unknown key in {}: {}", self.name, unknown(key.get_ref(), &self.known));
                Err(self.source.error(&key.span(), what))
            }
        }
    }
}

fn scalar_text<'a>(
    source: Source<'_>,
    key: &str,
    value: &'a Spanned<DeValue<'a>>,
    may_range: bool,
) -> Read<Cow<'a, str>> {
    let wrong = |what: String| source.error(&value.span(), what);
    match value.get_ref() {
        DeValue::String(text) => Ok(Cow::Borrowed(text.as_ref())),
        DeValue::Integer(number) => Ok(Cow::Owned(number.to_string())),
        DeValue::Float(number) => Ok(Cow::Owned(number.to_string())),
        DeValue::Boolean(flag) => Ok(Cow::Borrowed(if *flag { "true" } else { "false" })),
        DeValue::Array(ends) if may_range && ends.len() == 2 && !source.resolved => {
            scalar_text(source, key, &ends[0], false)
        }
        DeValue::Array(_) if source.resolved => Err(wrong(format!("`{key}`: a resolved scenario holds no ranges"))),
        DeValue::Array(_) | DeValue::Table(_) | DeValue::Datetime(_) => Err(wrong(format!(
            "`{key}` must be a text, a number, or a range of two of them"
        ))),
    }
}

/// "`x` is unknown; did you mean `y`?" with every known word where nothing is near.
pub fn unknown(word: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|known| (distance(word, known), known)).min();
    match nearest {
        Some((far, near)) if far <= near.len().max(3) / 2 => format!("`{word}`; did you mean `{near}`?"),
        _ => format!("`{word}`; known are {}", known.join(", ")),
    }
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}
