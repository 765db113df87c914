//! The ticket: one printable line that is all a person needs to join (protocol.md section 6, PROTOCOL 1).
//!
//! Invariants: `parse` accepts what `Display` prints, in either case, and nothing else; a network key never appears in
//! `Debug` output and is wiped when dropped; parsing allocates no more than the longest ticket takes.
//! Not here: deriving the fingerprint (`net-trust`), trying the addresses (`net-kernel`).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use net_base::{Addr, EntityId};
use zeroize::Zeroizing;

/// Prefix of a ticket for an open mesh; nothing in it is secret.
pub const PUBLIC_PREFIX: &str = "net1";
/// Prefix of a ticket that carries the network key: whoever holds it is a member.
pub const SECRET_PREFIX: &str = "netkey1";
/// Most addresses in a ticket.
pub const MAX_ADDRESSES: usize = 16;

const KEY_LEN: usize = 32;
const FINGERPRINT_LEN: usize = 8;
const CHECKSUM_LEN: usize = 5;
const CHECKSUM_LABEL: &str = "net ticket checksum v1";
/// Bytes before the addresses: identity, fingerprint, count.
const FIXED_LEN: usize = EntityId::LEN + FINGERPRINT_LEN + 1;
/// Bytes of an IPv6 address with family and port, the longer kind.
const LONGEST_ADDRESS: usize = 1 + 16 + 2;
const LONGEST: usize = FIXED_LEN + MAX_ADDRESSES * LONGEST_ADDRESS + KEY_LEN + CHECKSUM_LEN;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Whom to reach, where, in which network.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The node's identity.
    pub entity: EntityId,
    /// Fingerprint of the network, compared before anything is sent.
    pub fingerprint: [u8; FINGERPRINT_LEN],
    /// Where the node may be reached, best first. Only the first [`MAX_ADDRESSES`] are printed.
    pub addresses: Vec<Addr>,
    network_key: Option<Zeroizing<[u8; KEY_LEN]>>,
}

impl Ticket {
    /// A ticket without a network key.
    #[must_use]
    pub const fn new(entity: EntityId, fingerprint: [u8; FINGERPRINT_LEN], addresses: Vec<Addr>) -> Self {
        Self {
            entity,
            fingerprint,
            addresses,
            network_key: None,
        }
    }

    /// The same ticket, carrying the network's key: it prints with the prefix `netkey1` and is secret.
    #[must_use]
    pub fn with_network_key(mut self, key: [u8; KEY_LEN]) -> Self {
        self.network_key = Some(Zeroizing::new(key));
        self
    }

    /// The network key, in a secret ticket.
    #[must_use]
    pub fn network_key(&self) -> Option<&[u8; KEY_LEN]> {
        self.network_key.as_deref()
    }

    /// Whether whoever reads the ticket gains membership.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        self.network_key.is_some()
    }

    /// The prefix it prints with.
    #[must_use]
    pub const fn prefix(&self) -> &'static str {
        if self.is_secret() { SECRET_PREFIX } else { PUBLIC_PREFIX }
    }

    /// Reads a ticket. White space around it and upper case are accepted.
    ///
    /// # Errors
    /// A [`TicketError`] that says what was wrong, where, and what to do.
    pub fn parse(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let (prefix, secret) = split_prefix(text)?;
        let bytes = decode_base32(&text[prefix.len()..], prefix.len())?;
        let Some((content, checksum)) = bytes.split_last_chunk::<CHECKSUM_LEN>() else {
            return Err(TicketError::Truncated { characters: text.len() });
        };
        if checksum_of(prefix, content) != *checksum {
            // The checksum fails for any damage; a content that ends early tells the most common one apart.
            return Err(match read_content(content, prefix, secret) {
                Err(TicketError::Truncated { .. }) => TicketError::Truncated { characters: text.len() },
                Ok(_) | Err(_) => TicketError::Checksum,
            });
        }
        read_content(content, prefix, secret)
    }

    /// Everything the checksum covers but the prefix.
    fn content(&self) -> Zeroizing<Vec<u8>> {
        let addresses = &self.addresses[..self.addresses.len().min(MAX_ADDRESSES)];
        let mut out = Zeroizing::new(Vec::with_capacity(LONGEST));
        out.extend_from_slice(&self.entity.0);
        out.extend_from_slice(&self.fingerprint);
        out.push(addresses.len() as u8);
        for address in addresses {
            match address.ip() {
                IpAddr::V4(ip) => {
                    out.push(4);
                    out.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(6);
                    out.extend_from_slice(&ip.octets());
                }
            }
            out.extend_from_slice(&address.port().to_be_bytes());
        }
        if let Some(key) = &self.network_key {
            out.extend_from_slice(&key[..]);
        }
        out
    }
}

/// Prints the ticket itself, the network key included where it carries one.
impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.content();
        let checksum = checksum_of(self.prefix(), &bytes);
        bytes.extend_from_slice(&checksum);
        f.write_str(self.prefix())?;
        encode_base32(&bytes, f)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("entity", &self.entity)
            .field("fingerprint", &self.fingerprint)
            .field("addresses", &self.addresses)
            .field("network_key", &self.network_key.as_ref().map(|_| "hidden"))
            .finish()
    }
}

impl FromStr for Ticket {
    type Err = TicketError;
    fn from_str(text: &str) -> Result<Self, TicketError> {
        Self::parse(text)
    }
}

/// What is wrong with a ticket. Positions count characters from 1, white space around the ticket left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TicketError {
    /// There is no text at all.
    Empty,
    /// The text does not begin like a ticket.
    Prefix {
        /// How it begins instead: at most eight characters.
        found: String,
    },
    /// A character that no ticket contains.
    Character {
        /// Its position.
        position: usize,
        /// The character.
        found: char,
    },
    /// The last character does not complete a byte: the end is missing, or it is wrong.
    Ending {
        /// Its position.
        position: usize,
        /// The character.
        found: char,
    },
    /// The end is missing.
    Truncated {
        /// How many characters there are.
        characters: usize,
    },
    /// More characters than any ticket has.
    TooLong {
        /// How many characters there are.
        characters: usize,
        /// The most that a ticket has.
        limit: usize,
    },
    /// The characters do not belong together: some were changed, swapped or left out.
    Checksum,
    /// The ticket is whole, but there is more in it than this version knows.
    Trailing {
        /// Where the unknown part begins.
        position: usize,
    },
    /// The ticket is whole, but names an address of a kind this version does not know.
    AddressFamily {
        /// Which address, from 1.
        index: usize,
        /// Where it begins.
        position: usize,
        /// The family it names.
        family: u8,
    },
    /// The ticket is whole, but lists more addresses than [`MAX_ADDRESSES`].
    TooManyAddresses {
        /// Where the count stands.
        position: usize,
        /// The count.
        count: usize,
    },
}

impl fmt::Display for TicketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const COPY: &str = "copy the whole ticket again from where it was printed";
        const UPDATE: &str = "it was made by another version: use the same version on both sides";
        match self {
            Self::Empty => write!(f, "the ticket is empty; pass the line that starts with {PUBLIC_PREFIX}"),
            Self::Prefix { found } => write!(
                f,
                "the ticket starts with {found:?} at character 1, not with {PUBLIC_PREFIX} or {SECRET_PREFIX}; {COPY}"
            ),
            Self::Character { position, found } => {
                write!(
                    f,
                    "the ticket has {found:?} at character {position}, which no ticket contains; {COPY}"
                )
            }
            Self::Ending { position, found } => write!(
                f,
                "the ticket cannot end with {found:?} at character {position}: its end is missing or wrong; {COPY}"
            ),
            Self::Truncated { characters } => {
                write!(f, "the ticket ends too early, after character {characters}; {COPY}")
            }
            Self::TooLong { characters, limit } => {
                write!(
                    f,
                    "the ticket has {characters} characters, more than the {limit} any ticket has; {COPY}"
                )
            }
            Self::Checksum => {
                write!(
                    f,
                    "the ticket's checksum (its last 8 characters) does not fit the rest: some are wrong; {COPY}"
                )
            }
            Self::Trailing { position } => {
                write!(
                    f,
                    "the ticket goes on at character {position}, where it should end; {UPDATE}"
                )
            }
            Self::AddressFamily {
                index,
                position,
                family,
            } => write!(
                f,
                "address {index} of the ticket, at character {position}, is of the unknown kind {family}; {UPDATE}"
            ),
            Self::TooManyAddresses { position, count } => write!(
                f,
                "the ticket lists {count} addresses at character {position}, more than {MAX_ADDRESSES}; {UPDATE}"
            ),
        }
    }
}

impl core::error::Error for TicketError {}

/// The prefix of a ticket, as printed, and whether it announces a network key.
fn split_prefix(text: &str) -> Result<(&'static str, bool), TicketError> {
    for (prefix, secret) in [(PUBLIC_PREFIX, false), (SECRET_PREFIX, true)] {
        if text
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        {
            return Ok((prefix, secret));
        }
    }
    if text.is_empty() {
        return Err(TicketError::Empty);
    }
    Err(TicketError::Prefix {
        found: text.chars().take(8).collect(),
    })
}

/// Reads what the checksum covers. Only a content whose checksum holds is believed.
fn read_content(content: &[u8], prefix: &str, secret: bool) -> Result<Ticket, TicketError> {
    let position = |rest: &[u8]| prefix.len() + (content.len() - rest.len()) * 8 / 5 + 1;
    let truncated = || TicketError::Truncated {
        characters: prefix.len() + (content.len() * 8).div_ceil(5),
    };
    let (entity, rest) = content.split_first_chunk::<{ EntityId::LEN }>().ok_or_else(truncated)?;
    let (fingerprint, rest) = rest.split_first_chunk::<FINGERPRINT_LEN>().ok_or_else(truncated)?;
    let (count, mut rest_of_addresses) = rest.split_first().ok_or_else(truncated)?;
    let count = *count as usize;
    if count > MAX_ADDRESSES {
        return Err(TicketError::TooManyAddresses {
            position: position(rest),
            count,
        });
    }
    let mut addresses = Vec::with_capacity(count);
    for index in 1..=count {
        let (family, after) = rest_of_addresses.split_first().ok_or_else(truncated)?;
        let (ip, after) = match family {
            4 => read_ip::<4>(after).map(|(ip, after)| (IpAddr::V4(Ipv4Addr::from(ip)), after)),
            6 => read_ip::<16>(after).map(|(ip, after)| (IpAddr::V6(Ipv6Addr::from(ip)), after)),
            _ => {
                let position = position(rest_of_addresses);
                return Err(TicketError::AddressFamily {
                    index,
                    position,
                    family: *family,
                });
            }
        }
        .ok_or_else(truncated)?;
        let (port, after) = after.split_first_chunk().ok_or_else(truncated)?;
        addresses.push(Addr::new(ip, u16::from_be_bytes(*port)));
        rest_of_addresses = after;
    }
    let mut ticket = Ticket::new(EntityId(*entity), *fingerprint, addresses);
    let mut rest = rest_of_addresses;
    if secret {
        let (key, after) = rest.split_first_chunk::<KEY_LEN>().ok_or_else(truncated)?;
        ticket = ticket.with_network_key(*key);
        rest = after;
    }
    if rest.is_empty() {
        Ok(ticket)
    } else {
        Err(TicketError::Trailing {
            position: position(rest),
        })
    }
}

fn read_ip<const LEN: usize>(bytes: &[u8]) -> Option<([u8; LEN], &[u8])> {
    bytes.split_first_chunk::<LEN>().map(|(ip, rest)| (*ip, rest))
}

fn checksum_of(prefix: &str, content: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hasher = blake3::Hasher::new_derive_key(CHECKSUM_LABEL);
    hasher.update(prefix.as_bytes());
    hasher.update(content);
    let mut checksum = [0; CHECKSUM_LEN];
    checksum.copy_from_slice(&hasher.finalize().as_bytes()[..CHECKSUM_LEN]);
    checksum
}

/// RFC 4648 section 6, lower case, no padding characters.
fn encode_base32(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for group in bytes.chunks(5) {
        let mut bits = [0; 8];
        bits[3..3 + group.len()].copy_from_slice(group);
        let bits = u64::from_be_bytes(bits);
        for at in 0..(group.len() * 8).div_ceil(5) {
            let index = (bits >> (35 - 5 * at)) & 31;
            f.write_char(ALPHABET[index as usize] as char)?;
        }
    }
    Ok(())
}

/// Reads base32 in either case. `before` characters stand in front of `text` in the ticket.
fn decode_base32(text: &str, before: usize) -> Result<Zeroizing<Vec<u8>>, TicketError> {
    let limit = (LONGEST * 8).div_ceil(5);
    if text.len() > limit {
        return Err(TicketError::TooLong {
            characters: before + text.chars().count(),
            limit: before + limit,
        });
    }
    let mut out = Zeroizing::new(Vec::with_capacity(LONGEST));
    let (mut bits, mut held) = (0u32, 0);
    let mut last = ('a', before);
    for (at, found) in text.chars().enumerate() {
        let position = before + at + 1;
        let value = match found {
            'a'..='z' => found as u32 - 'a' as u32,
            'A'..='Z' => found as u32 - 'A' as u32,
            '2'..='7' => found as u32 - '2' as u32 + 26,
            _ => return Err(TicketError::Character { position, found }),
        };
        bits = (bits << 5 | value) & 0xFFF;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
        last = (found, position);
    }
    // One, three or six characters beyond whole groups hold no whole byte more than one fewer does.
    if held >= 5 {
        return Err(TicketError::Truncated {
            characters: before + text.len(),
        });
    }
    if bits & ((1 << held) - 1) != 0 {
        // Bits that no byte takes must be zero, or one ticket would have several spellings.
        return Err(TicketError::Ending {
            position: last.1,
            found: last.0,
        });
    }
    Ok(out)
}

/// A ticket text whose checksum holds over any content, to test what lies behind the checksum.
#[cfg(any(test, fuzzing, feature = "fuzz"))]
pub(crate) fn seal(prefix: &str, content: &[u8]) -> String {
    struct Sealed<'b>(&'b str, &'b [u8]);
    impl fmt::Display for Sealed<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)?;
            encode_base32(&[self.1, &checksum_of(self.0, self.1)].concat(), f)
        }
    }
    alloc::string::ToString::to_string(&Sealed(prefix, content))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    fn public() -> Ticket {
        Ticket::new(
            EntityId([7; 32]),
            [1, 2, 3, 4, 5, 6, 7, 8],
            vec!["192.0.2.1:4433".parse().unwrap()],
        )
    }

    #[test]
    fn base32_agrees_with_the_vectors_of_rfc_4648() {
        struct Base32<'b>(&'b [u8]);
        impl fmt::Display for Base32<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                encode_base32(self.0, f)
            }
        }
        let cases = [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("foobar", "mzxw6ytboi"),
        ];
        for (plain, coded) in cases {
            assert_eq!(Base32(plain.as_bytes()).to_string(), coded);
            assert_eq!(decode_base32(coded, 0).unwrap().as_slice(), plain.as_bytes());
        }
    }

    #[test]
    fn a_typical_public_ticket_stays_short() {
        assert_eq!(public().to_string().len(), 89);
    }

    #[test]
    fn the_key_never_shows_in_debug_output() {
        let ticket = public().with_network_key([0xAB; 32]);
        assert!(ticket.to_string().starts_with("netkey1"));
        let debug = format!("{ticket:?} {ticket:#?}").to_lowercase();
        assert!(!debug.contains("171") && !debug.contains("abab"), "{debug}");
        assert!(debug.contains("hidden"));
    }

    #[test]
    fn white_space_around_and_upper_case_are_accepted() {
        let ticket = public().with_network_key([9; 32]);
        let shouted = format!(" \t{}\r\n", ticket.to_string().to_uppercase());
        assert_eq!(Ticket::parse(&shouted), Ok(ticket));
    }

    #[test]
    fn every_cut_is_told_as_such_or_as_a_wrong_checksum() {
        let text = public().to_string();
        for length in 0..text.len() {
            let error = Ticket::parse(&text[..length]).unwrap_err();
            let expected = matches!(
                error,
                TicketError::Empty
                    | TicketError::Prefix { .. }
                    | TicketError::Truncated { .. }
                    | TicketError::Ending { .. }
                    | TicketError::Checksum
            );
            assert!(expected, "{length}: {error}");
        }
        assert_eq!(
            Ticket::parse(&text[..40]),
            Err(TicketError::Truncated { characters: 40 })
        );
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = public().with_network_key([3; 32]).to_string();
        for at in 0..text.len() {
            let other = if text.as_bytes()[at] == b'q' { "r" } else { "q" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(Ticket::parse(&changed).is_err(), "character {}", at + 1);
        }
    }

    #[test]
    fn a_public_ticket_is_not_a_secret_one_with_its_prefix_changed() {
        let text = public().to_string();
        let posed = text.replacen(PUBLIC_PREFIX, SECRET_PREFIX, 1);
        assert!(Ticket::parse(&posed).is_err());
    }

    #[test]
    fn errors_say_what_where_and_what_to_do() {
        let text = public().to_string();
        let mut wrong = text.clone();
        wrong.replace_range(16..17, "0");
        let error = Ticket::parse(&wrong).unwrap_err();
        assert_eq!(
            error,
            TicketError::Character {
                position: 17,
                found: '0'
            }
        );
        let said = error.to_string();
        assert!(
            said.contains("'0'") && said.contains("character 17") && said.contains("copy"),
            "{said}"
        );
        let said = Ticket::parse("http://x").unwrap_err().to_string();
        assert!(said.contains("http://x") && said.contains("net1"), "{said}");
        assert!(matches!(
            Ticket::parse(&text.repeat(20)),
            Err(TicketError::TooLong { .. })
        ));
    }

    fn sealed(content: &[u8]) -> String {
        seal(PUBLIC_PREFIX, content)
    }

    #[test]
    fn whole_tickets_of_another_version_are_told_apart() {
        let content = public().content().to_vec();
        assert_eq!(Ticket::parse(&sealed(&content)), Ok(public()));
        let mut longer = content.clone();
        longer.push(1);
        assert_eq!(
            Ticket::parse(&sealed(&longer)),
            Err(TicketError::Trailing {
                position: 4 + 48 * 8 / 5 + 1
            })
        );
        let mut family = content.clone();
        family[FIXED_LEN] = 9;
        let error = TicketError::AddressFamily {
            index: 1,
            position: 4 + 41 * 8 / 5 + 1,
            family: 9,
        };
        assert_eq!(Ticket::parse(&sealed(&family)), Err(error));
        let mut many = content;
        many[FIXED_LEN - 1] = 17;
        let error = TicketError::TooManyAddresses {
            position: 4 + 40 * 8 / 5 + 1,
            count: 17,
        };
        assert_eq!(Ticket::parse(&sealed(&many)), Err(error));
    }

    #[test]
    fn more_addresses_than_fit_are_left_out() {
        let mut ticket = public();
        ticket.addresses = vec!["[2001:db8::1]:1".parse().unwrap(); MAX_ADDRESSES + 3];
        let parsed = Ticket::parse(&ticket.to_string()).unwrap();
        assert_eq!(parsed.addresses.len(), MAX_ADDRESSES);
    }
}
