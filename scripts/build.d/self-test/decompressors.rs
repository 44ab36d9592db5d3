//! The decompressors that are C.

use std::io::Read;
use std::path::Path;

use crate::{Checked, ensure};

/// liblzma is C, and its parallel decoder starts threads of its own.
pub(crate) fn xz(_: &Path) -> Checked {
    let plain = pattern();
    let encoder = xz2::stream::MtStreamBuilder::new().threads(2).block_size(1 << 16).preset(1).encoder()?;
    let mut packed = Vec::new();
    xz2::read::XzEncoder::new_stream(&plain[..], encoder).read_to_end(&mut packed)?;
    let decoder = xz2::stream::MtStreamBuilder::new()
        .threads(2)
        .memlimit_stop(u64::MAX)
        .memlimit_threading(u64::MAX)
        .decoder()?;
    let mut again = Vec::new();
    xz2::read::XzDecoder::new_stream(&packed[..], decoder).read_to_end(&mut again)?;
    ensure!(again == plain);
    packed.truncate(packed.len() / 2);
    ensure!(xz2::read::XzDecoder::new(&packed[..]).read_to_end(&mut again).is_err());
    Ok(())
}

pub(crate) fn zstd(_: &Path) -> Checked {
    let plain = pattern();
    let packed = zstd::encode_all(&plain[..], 3)?;
    ensure!(packed.len() < plain.len() && zstd::decode_all(&packed[..])? == plain);
    ensure!(zstd::decode_all(&packed[..packed.len() / 2]).is_err());
    Ok(())
}

/// Compressible, and not too much so.
fn pattern() -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x1f
    };
    (0..1 << 19).map(|_| next()).collect()
}
