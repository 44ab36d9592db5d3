//! One header block.

use anyhow::{Result, anyhow, bail};

use super::{Time, disagreement, number};

pub(super) const BLOCK: u64 = 512;

pub(super) struct Header<'a> {
    block: &'a [u8; BLOCK as usize],
    strict: bool,
    pub typeflag: u8,
    /// Prefix and name.
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub size: u64,
    pub mtime: Time,
}

impl<'a> Header<'a> {
    pub fn parse(block: &'a [u8; BLOCK as usize], at: u64, strict: bool) -> Result<Header<'a>> {
        let crated = tar::Header::from_byte_slice(block);
        if !checksum_fits(block, crated.cksum().unwrap_or(u32::MAX)) {
            bail!("at byte {at}: the header's checksum is wrong");
        }
        let fields = crated.as_old();
        let read = Reader { at, strict };
        let typeflag = fields.linkflag[0];
        // The others ignore the size of a header that the extension's records are about.
        let size = read.unsigned(&fields.size, "size")?;
        let seconds = read.number(&fields.mtime, "time")?;
        let mut header = Header {
            block,
            strict,
            typeflag,
            path: text(&fields.name),
            link: text(&fields.linkname),
            mode: (read.number(&fields.mode, "mode")? & 0o7777) as u32,
            uid: read.owner(&fields.uid)?,
            gid: read.owner(&fields.gid)?,
            size,
            mtime: Time { seconds, nanoseconds: 0 },
        };
        header.prefix(at)?;
        if strict {
            header.must_be_plain(at)?;
        }
        Ok(header)
    }

    /// For `--strict`: fields that only some readers know are empty.
    fn must_be_plain(&self, at: u64) -> Result<()> {
        let filled = |range: std::ops::Range<usize>| self.block[range].iter().any(|&b| b != 0);
        let after = |range: std::ops::Range<usize>| {
            let field = &self.block[range];
            field.iter().skip_while(|&&b| b != 0).any(|&b| b != 0)
        };
        match &self.block[257..265] {
            b"ustar\x0000" if self.typeflag == b'S' => disagreement(at, "GNU's sparse file in a ustar header")?,
            // star keeps times behind a shorter prefix.
            b"ustar\x0000" if after(345..500) || filled(500..512) => {
                disagreement(at, "more than ustar has in its header")?
            }
            b"ustar\x0000" => {}
            b"ustar  \0" if filled(369..386) || filled(495..512) || (self.typeflag != b'S' && filled(386..495)) => {
                disagreement(at, "fields of GNU's old header that no other entry has")?;
            }
            b"ustar  \0" => {}
            magic if magic.iter().any(|&b| b != 0) || filled(345..512) => {
                disagreement(at, "a header of no known format")?
            }
            _ => {}
        }
        // Python reads them in every header.
        self.device(at)?;
        if (Reader { at, strict: true }).number(&self.block[100..108], "mode")? > 0o17_7777 {
            disagreement(at, "a mode with more than permissions and a type")?;
        }
        if after(0..100) || after(157..257) {
            disagreement(at, "a name with more behind its end")?;
        }
        Ok(())
    }

    /// The beginning of a long name, in ustar; in GNU's format the field holds other things.
    fn prefix(&mut self, at: u64) -> Result<()> {
        let prefix = text(&self.block[345..500]);
        let gnu_type = matches!(self.typeflag, b'L' | b'K' | b'S');
        if prefix.is_empty() || gnu_type {
            return Ok(());
        }
        let magic = &self.block[257..265];
        if self.strict && prefix.ends_with(b"/") {
            return disagreement(at, "a name's prefix ends in a slash");
        }
        if self.strict && !magic.starts_with(b"ustar\0") {
            return disagreement(at, "a name's prefix in a header that is not ustar");
        }
        if magic.starts_with(b"ustar") && magic != b"ustar  \0" {
            self.path = [&prefix[..], b"/", &self.path].concat();
        }
        Ok(())
    }

    pub fn is_ustar(&self) -> bool {
        self.block[257..].starts_with(b"ustar\0")
    }

    pub fn device(&self, at: u64) -> Result<(u32, u32)> {
        let read = Reader { at, strict: self.strict };
        let number = |bytes, what| {
            u32::try_from(read.unsigned(bytes, what)?).map_err(|_| anyhow!("at byte {at}: the {what} is impossible"))
        };
        Ok((
            number(&self.block[329..337], "device's major number")?,
            number(&self.block[337..345], "device's minor number")?,
        ))
    }

    /// Old GNU's sparse map: its first entries, whether more blocks of it follow, and the real size.
    pub fn gnu_sparse(&self) -> (&'a [u8], bool, &'a [u8]) {
        (&self.block[386..482], self.block[482] != 0, &self.block[483..495])
    }
}

/// Header fields with the header's place for the message.
pub(super) struct Reader {
    pub at: u64,
    pub strict: bool,
}

impl Reader {
    pub fn number(&self, bytes: &[u8], what: &str) -> Result<i64> {
        let at = self.at;
        match number::field(bytes) {
            Ok((value, agreed)) => {
                if self.strict && !agreed {
                    disagreement(at, format_args!("the {what} is written oddly"))?;
                }
                Ok(value)
            }
            Err(number::Bad::NotANumber) => bail!("at byte {at}: the {what} is not a number"),
            Err(number::Bad::OutOfRange) => bail!("at byte {at}: the {what} is impossible"),
        }
    }

    pub fn unsigned(&self, bytes: &[u8], what: &str) -> Result<u64> {
        let value = self.number(bytes, what)?;
        u64::try_from(value).map_err(|_| anyhow!("at byte {}: the {what} is negative", self.at))
    }

    fn owner(&self, bytes: &[u8]) -> Result<u64> {
        let value = self.unsigned(bytes, "owner")?;
        owner(value, self.at)
    }
}

/// Archives have the highest number as an owner, which chown(2) cannot set: it is squashed.
pub(super) fn owner(value: u64, at: u64) -> Result<u64> {
    if value > u64::from(u32::MAX) {
        bail!("at byte {at}: the owner {value} is impossible");
    }
    Ok(value)
}

/// Some old tars summed signed bytes.
fn checksum_fits(block: &[u8; BLOCK as usize], recorded: u32) -> bool {
    // The field itself counts as eight spaces.
    let field = &block[148..156];
    let sum = |bytes: &[u8]| bytes.iter().map(|&b| u32::from(b)).sum::<u32>();
    let signed_sum = |bytes: &[u8]| bytes.iter().map(|&b| i32::from(b as i8)).sum::<i32>();
    let unsigned = sum(block) - sum(field) + 8 * 32;
    let signed = signed_sum(block) - signed_sum(field) + 8 * 32;
    recorded == unsigned || i64::from(recorded) == i64::from(signed)
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> Vec<u8> {
    field.split(|&b| b == 0).next().unwrap_or_default().to_vec()
}
