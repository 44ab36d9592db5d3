//! What the headers before an entry's own say about it: GNU's long names, PAX extended headers and
//! the global ones before them.

use anyhow::{Result, bail};

use super::disagreement;
use super::pax::Pax;
use super::sparse::Records as SparseRecords;
use crate::budget::{Limits, within};

#[derive(Default)]
pub(super) struct Extensions {
    global: Pax,
    /// Bytes that the global records took, all together.
    global_size: u64,
    pax: Option<Pax>,
    long_name: Option<Long>,
    long_link: Option<Long>,
    /// The last header that was read is a global one.
    global_is_last: bool,
}

/// A GNU long name or link target.
struct Long {
    text: Vec<u8>,
    /// It came before the extended header, so it is the one that counts.
    first: bool,
}

impl Extensions {
    /// Takes the body of an extension header. A second one of the same kind replaces the first.
    pub fn add(&mut self, typeflag: u8, body: Vec<u8>, at: u64, limits: &Limits) -> Result<()> {
        if limits.strict && self.repeats(typeflag) {
            disagreement(at, "a second extended header before one entry")?;
        }
        self.global_is_last = typeflag == b'g';
        match typeflag {
            b'L' => self.long_name = Some(self.long(body, at)?),
            b'K' => self.long_link = Some(self.long(body, at)?),
            b'g' => {
                let pax = Pax::parse(&body, at, limits.strict)?;
                if pax.says_something() {
                    if limits.strict {
                        disagreement(at, "a global extended header that changes entries")?;
                    }
                    self.global_size += body.len() as u64;
                    within(
                        self.global_size,
                        limits.pax,
                        format_args!("at byte {at}: bytes of global extended headers"),
                        "--limit pax=N",
                    )?;
                    self.global.overlay(pax);
                }
            }
            _ => self.pax = Some(Pax::parse(&body, at, limits.strict)?),
        }
        Ok(())
    }

    fn repeats(&self, typeflag: u8) -> bool {
        match typeflag {
            b'L' => self.long_name.is_some() || self.pax.is_some(),
            b'K' => self.long_link.is_some() || self.pax.is_some(),
            _ => self.pending(),
        }
    }

    fn long(&self, mut body: Vec<u8>, at: u64) -> Result<Long> {
        body.truncate(body.iter().position(|&b| b == 0).unwrap_or(body.len()));
        if body.is_empty() {
            bail!("at byte {at}: a long name is empty");
        }
        Ok(Long { text: body, first: self.pax.is_none() })
    }

    /// An extension was read, and the entry that it is for was not.
    pub fn pending(&self) -> bool {
        self.pax.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }

    pub fn has_pax(&self) -> bool {
        self.pax.is_some()
    }

    /// A global header was read, and no entry after it.
    pub fn ends_in_global(&self) -> bool {
        self.global_is_last
    }

    /// What applies to the entry whose header has just been read.
    pub fn take(&mut self) -> Pax {
        self.global_is_last = false;
        if !self.pending() && self.global_size == 0 {
            return Pax::default();
        }
        let own = self.pax.take().unwrap_or_default();
        let path =
            choose(self.long_name.take(), own.sparse.name.clone().or_else(|| own.path.clone()), &self.global.path);
        let link = choose(self.long_link.take(), own.link.clone(), &self.global.link);
        // Nobody but GNU tar frames by a global size, and a sparse map is one file's.
        let mut all = Pax { size: None, sparse: SparseRecords::default(), ..self.global.clone() };
        all.overlay(own);
        Pax { path, link, ..all }
    }
}

fn choose(long: Option<Long>, pax: Option<Vec<u8>>, global: &Option<Vec<u8>>) -> Option<Vec<u8>> {
    match long {
        Some(long) if long.first => Some(long.text),
        long => pax.or(long.map(|long| long.text)).or_else(|| global.clone()),
    }
}
