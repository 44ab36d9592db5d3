//! Sparse files in their four encodings: old GNU, and GNU's PAX records 0.0, 0.1 and 1.0.

use std::io::Read;

use anyhow::{Result, anyhow, bail};

use super::header::{BLOCK, Header, Reader};
use super::{Archive, Segment, number, truncated};
use crate::budget::within;

/// The `GNU.sparse.` records of an extended header.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    /// 0.0 and 0.1 call it size, 1.0 realsize.
    size: Option<u64>,
    map: Vec<Segment>,
    mapped: bool,
    /// A 0.0 offset that waits for its length.
    offset: Option<u64>,
    blocks: Option<u64>,
    any: bool,
}

impl Records {
    /// None where the value is malformed.
    pub fn set(&mut self, field: &[u8], value: &[u8]) -> Option<()> {
        self.any = true;
        match field {
            b"name" if value.contains(&0) => return None,
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(number::decimal(value)?),
            b"minor" => self.minor = Some(number::decimal(value)?),
            b"realsize" => self.size = Some(number::decimal(value)?),
            b"size" => {
                self.size = Some(number::decimal(value)?);
                // A file that is one hole has no other record.
                self.mapped = true;
            }
            b"offset" => {
                if self.offset.replace(number::decimal(value)?).is_some() {
                    return None;
                }
                self.mapped = true;
            }
            b"numbytes" => {
                self.map.push(Segment { offset: self.offset.take()?, length: number::decimal(value)? });
            }
            b"map" => {
                self.mapped = true;
                self.map.clear();
                let mut numbers = value.split(|&b| b == b',').filter(|_| !value.is_empty());
                while let Some(offset) = numbers.next() {
                    let (offset, length) = (number::decimal(offset)?, number::decimal(numbers.next()?)?);
                    self.map.push(Segment { offset, length });
                }
            }
            // The map says it too.
            b"numblocks" => self.blocks = number::decimal(value),
            _ => {}
        }
        Some(())
    }

    pub fn any(&self) -> bool {
        self.any
    }
}

impl<R: Read> Archive<R> {
    /// A sparse file's real size and map, where the entry is one. Takes the part of the map that is
    /// in the stream, so that the content begins with the first segment.
    pub(super) fn sparse_map(
        &mut self,
        header: &Header,
        records: Records,
        at: u64,
    ) -> Result<Option<(u64, Vec<Segment>)>> {
        let (size, map) = if header.typeflag == b'S' {
            self.old_gnu_map(header, at)?
        } else if records.major == Some(1) && records.minor == Some(0) {
            let size = records.size.ok_or_else(|| anyhow!("at byte {at}: a sparse file without its real size"))?;
            (size, self.stored_map(at)?)
        } else if records.mapped {
            if records.offset.is_some() {
                bail!("at byte {at}: the sparse map is malformed");
            }
            if records.blocks.is_none_or(|blocks| blocks != records.map.len() as u64) {
                self.strict(at, "a sparse map of another length than its record says")?;
            }
            let size = records.size.ok_or_else(|| anyhow!("at byte {at}: a sparse file without its real size"))?;
            (size, records.map)
        } else if records.major.is_some() {
            bail!("at byte {at}: a sparse file of an unknown version");
        } else {
            return Ok(None);
        };
        self.check_map(size, &map, at)?;
        let map = map.into_iter().filter(|segment| segment.length > 0).collect();
        Ok(Some((size, map)))
    }

    fn check_map(&self, size: u64, map: &[Segment], at: u64) -> Result<()> {
        within(size, self.limits.bytes, format_args!("at byte {at}: bytes of a sparse file"), "--limit bytes=N")?;
        self.segments_within(map.len(), at)?;
        // GNU tar ends each map with an empty segment at the file's end; bsdtar and Python go by the last one.
        if map.last().is_none_or(|last| last.offset.checked_add(last.length) != Some(size)) {
            self.strict(at, "a sparse map that does not reach the file's end")?;
        }
        let (mut end, mut stored, mut unaligned) = (0_u64, 0_u64, false);
        for segment in map {
            if segment.offset < end {
                // GNU ends a map with an empty segment, which old versions leave at 0.
                if segment.length == 0 {
                    continue;
                }
                bail!("at byte {at}: the segments of a sparse file are out of order or overlap");
            }
            end = segment
                .offset
                .checked_add(segment.length)
                .filter(|&end| end <= size)
                .ok_or_else(|| anyhow!("at byte {at}: a segment of a sparse file is past its end"))?;
            if unaligned && segment.length > 0 {
                self.strict(at, "a sparse file's segment is no whole number of blocks")?;
            }
            unaligned |= segment.length % BLOCK != 0;
            stored += segment.length;
        }
        if stored > self.content {
            bail!("at byte {at}: a sparse file has less data than its map says");
        }
        if stored < self.content {
            self.strict(at, "a sparse file has more data than its map says")?;
        }
        Ok(())
    }

    fn segments_within(&self, count: usize, at: u64) -> Result<()> {
        let what = format_args!("at byte {at}: segments of a sparse file");
        within(count as u64, self.limits.segments, what, "--limit sparse=N")
    }

    /// Four segments in the header, 21 in each block that follows it.
    fn old_gnu_map(&mut self, header: &Header, at: u64) -> Result<(u64, Vec<Segment>)> {
        let read = Reader { at, strict: self.limits.strict };
        let (fields, mut extended, size) = header.gnu_sparse();
        let size = read.unsigned(size, "size of a sparse file")?;
        let mut map = Vec::new();
        let mut more = old_gnu_segments(fields, &read, &mut map)?;
        if extended && !more {
            self.strict(at, "a sparse map that goes on after its end")?;
        }
        while extended {
            // Its blocks come before the content and are not counted in the entry's size.
            let block = self.block()?.ok_or_else(|| truncated(self.offset))?;
            if more {
                more = old_gnu_segments(&block[..504], &read, &mut map)?;
            }
            self.segments_within(map.len(), at)?;
            extended = block[504] != 0;
            if (extended && !more) || block[505..].iter().any(|&b| b != 0) {
                self.strict(at, "a sparse map that goes on after its end")?;
            }
        }
        Ok((size, map))
    }

    /// 1.0: decimal lines at the beginning of the content, in whole blocks: the number of segments, then each one's
    /// offset and length.
    fn stored_map(&mut self, at: u64) -> Result<Vec<Segment>> {
        let mut lines = Lines { archive: self, at, block: [0; BLOCK as usize], used: BLOCK as usize };
        let count = lines.number()?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        lines.archive.segments_within(count, at)?;
        let mut map = Vec::new();
        for _ in 0..count {
            map.push(Segment { offset: lines.number()?, length: lines.number()? });
        }
        Ok(map)
    }
}

/// Whether the list may go on: a segment without a length ends it.
fn old_gnu_segments(fields: &[u8], read: &Reader, map: &mut Vec<Segment>) -> Result<bool> {
    for field in fields.chunks_exact(24) {
        if field[12] == 0 {
            return Ok(false);
        }
        let offset = read.unsigned(&field[..12], "offset of a segment")?;
        map.push(Segment { offset, length: read.unsigned(&field[12..], "length of a segment")? });
    }
    Ok(true)
}

struct Lines<'a, R> {
    archive: &'a mut Archive<R>,
    at: u64,
    block: [u8; BLOCK as usize],
    used: usize,
}

impl<R: Read> Lines<'_, R> {
    fn number(&mut self) -> Result<u64> {
        let mut digits = Vec::new();
        loop {
            if self.used == self.block.len() {
                if self.archive.content < BLOCK {
                    bail!("at byte {}: the sparse map is longer than the entry", self.at);
                }
                self.archive.content().read_exact(&mut self.block)?;
                self.used = 0;
            }
            let byte = self.block[self.used];
            self.used += 1;
            match byte {
                b'\n' => {
                    return number::decimal(&digits)
                        .ok_or_else(|| anyhow!("at byte {}: the sparse map is malformed", self.at));
                }
                byte if digits.len() < 20 => digits.push(byte),
                _ => bail!("at byte {}: the sparse map is malformed", self.at),
            }
        }
    }
}
