//! Root filesystems.

use std::io::Write as _;

use super::{deep, dir, file, gzip, hard_link, named, symlink, tar, with_records};
use crate::archive::{Block, global, long, record};

type Make = fn(usize) -> Vec<u8>;

pub const SHAPES: &[(&str, Make)] = &[
    ("a deep path for each file", |n| packed(0..n / 250 + 1, |i| vec![file(&deep(&i.to_string(), "f"))])),
    ("files in hundreds of deep directories by turns", |n| {
        packed(0..n / 8, |i| vec![file(&deep(&(i % (n / 250 + 1)).to_string(), &i.to_string()))])
    }),
    ("files in one deep directory", |n| packed(0..n / 8, |i| vec![file(&deep("d", &i.to_string()))])),
    ("names of 255 bytes, sixteen levels deep", |n| {
        packed(0..n / 16 + 1, |i| vec![file(&format!("{i:0255}/").repeat(16).replace("//", "/"))])
    }),
    ("a directory for each file", |n| packed(0..n / 2, |i| vec![file(&format!("d{i}/f"))])),
    ("one directory of empty files", |n| packed(0..n, |i| vec![file(&format!("f{i}"))])),
    ("one name again and again", |n| packed(0..n, |_| vec![file("same")])),
    ("one deep name again and again", |n| packed(0..n / 8, |_| vec![file(&deep("d", "same"))])),
    ("one directory's entry again and again", |n| packed(0..n, |_| vec![dir("same")])),
    ("a directory and a file in turn", |n| packed(0..n / 3, |_| vec![dir("d"), file("d/e"), file("d")])),
    ("a deep directory and a file in turn", |n| packed(0..n / 250 + 1, |_| vec![file(&deep("d", "f")), file("d")])),
    ("a full directory and a file in turn", |n| {
        let number = n.isqrt().max(1);
        packed(0..number, move |_| (0..number).map(|i| file(&format!("d/{i}"))).chain([file("d")]).collect())
    }),
    ("files through 39 links", |n| {
        let links = (0..39).map(|i| symlink(&format!("l{i}"), &format!("l{}", i + 1)));
        let files = (0..n).map(|i| file(&format!("l0/{i}")));
        gzip(&tar(links.chain([dir("l39")]).chain(files)))
    }),
    ("files through links of 4,000 bytes that change each time", |n| {
        let target = |i| format!("{}l{}", "d/../".repeat(790), i + 1);
        let links = (0..38).map(|i| symlink(&format!("l{i}"), &target(i)));
        let files = (0..n / 2000 + 1).flat_map(|i| [file(&format!("l0/{i}")), symlink("s", "x"), file("s")]);
        gzip(&tar([dir("d")].into_iter().chain(links).chain([dir("l38")]).chain(files)))
    }),
    ("symbolic links with 4,000 bytes of text", |n| {
        packed(0..n, |i| vec![symlink(&format!("l{i}"), &"t".repeat(4000))])
    }),
    ("hard links to one file", |n| {
        gzip(&tar([file("f")].into_iter().chain((0..n).map(|i| hard_link(&format!("h{i}"), "f")))))
    }),
    ("hard links to a deep file", |n| {
        let links = (0..n / 8).map(|i| named(&deep("e", &i.to_string()), Block::new("h", b'1').link("l")));
        gzip(&tar([file(&deep("d", "f")), hard_link("l", &deep("d", "f"))].into_iter().chain(links)))
    }),
    ("hard links that wait for each other", |n| {
        let links = (0..n).map(|i| hard_link(&format!("l{i}"), &format!("l{}", i + 1)));
        gzip(&tar(links.chain([file(&format!("l{n}"))])))
    }),
    ("files with hundreds of attributes", |n| {
        packed(0..n / 400 + 1, |i| {
            vec![with_records((0..400).map(|k| (format!("SCHILY.xattr.user.{k}"), "1".into())), file(&i.to_string()))]
        })
    }),
    ("a directory with other attributes each time", |n| {
        packed(0..n / 50 + 1, |i| {
            vec![with_records((0..50).map(|k| (format!("SCHILY.xattr.user.{i}.{k}"), "1".into())), dir("d"))]
        })
    }),
    ("attributes of a global header", |n| {
        let records: Vec<_> = (0..100).map(|k| record(&format!("SCHILY.xattr.user.{k}"), "1")).collect();
        gzip(&tar([global(&records)].into_iter().chain((0..n / 100).map(|i| file(&i.to_string())))))
    }),
    ("global headers again and again", |n| {
        let records: Vec<_> = (0..1000).map(|k| record(&format!("SCHILY.xattr.user.{k}"), "1")).collect();
        let global = global(&records);
        gzip(&tar((0..n / 16).map(|_| global.clone()).chain([file("f")])))
    }),
    ("extended headers of records that mean nothing", |n| {
        packed(0..n / 64, |i| {
            vec![with_records((0..4000).map(|k| (format!("k{k}"), "1".into())), file(&i.to_string()))]
        })
    }),
    ("extended headers that replace each other", |n| {
        let path = record("path", &"d/".repeat(100));
        packed(0..n / 64, |i| vec![crate::archive::extended(&vec![path.clone(); 1000]), file(&i.to_string())])
    }),
    ("long names that replace each other", |n| {
        packed(0..n / 16, |i| vec![long(&"n".repeat(60_000)), long("f"), file(&i.to_string())])
    }),
    ("access control lists of thousands of entries", |n| {
        let acl: Vec<_> = (0..2000).map(|id| format!("user:{id}:rwx")).collect();
        let acl = format!("user::rwx,{},group::r-x,mask::rwx,other::---", acl.join(","));
        packed(0..n / 64, |i| {
            vec![with_records([("SCHILY.acl.access".into(), acl.clone())].into_iter(), file(&i.to_string()))]
        })
    }),
    ("access control lists of names", |n| {
        let acl: Vec<_> = (0..2000).map(|id| format!("user:nobody-{id}:rwx")).collect();
        let acl = format!("user::rwx,{},group::r-x,mask::rwx,other::---", acl.join(","));
        packed(0..n / 64, |i| {
            vec![with_records([("SCHILY.acl.access".into(), acl.clone())].into_iter(), file(&i.to_string()))]
        })
    }),
    ("sparse files of many segments of one byte", |n| {
        let segments = n.min(100_000);
        let map: Vec<_> = (0..segments).map(|i| format!("{},1", i * 4096)).collect();
        let size = (segments * 4096).to_string();
        let records = [("GNU.sparse.map", map.join(",")), ("GNU.sparse.size", size)];
        let records = records.map(|(key, value)| (key.to_owned(), value));
        packed(0..n.div_ceil(segments), move |i| {
            let data = Block::file(&i.to_string(), &vec![b'x'; segments]);
            vec![with_records(records.clone().into_iter(), data.bytes())]
        })
    }),
    ("sparse files that are one hole", |n| {
        let records = [("GNU.sparse.map", "0,0"), ("GNU.sparse.size", "1000000000")];
        packed(0..n, move |i| {
            let records = records.map(|(key, value)| (key.to_owned(), value.to_owned()));
            vec![with_records(records.into_iter(), file(&i.to_string()))]
        })
    }),
    ("devices and fifos", |n| {
        packed(0..n / 2, |i| {
            vec![Block::new(&format!("b{i}"), b'4').bytes(), Block::new(&format!("p{i}"), b'6').bytes()]
        })
    }),
    ("names that are too long", |n| packed(0..n, |i| vec![file(&format!("{i}{}", "n".repeat(300)))])),
    ("members of gzip that are nothing", |n| {
        let empty = gzip(b"");
        [gzip(&file("f")), empty.repeat(n / 4), gzip(&tar([]))].concat()
    }),
    ("streams of xz that are nothing", |n| {
        let pack = |bytes: &[u8]| {
            let mut writer = xz2::write::XzEncoder::new(Vec::new(), 6);
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        };
        [pack(&file("f")), pack(b"").repeat(n / 4), pack(&tar([]))].concat()
    }),
    ("frames of zstd that are nothing", |n| {
        let pack = |bytes: &[u8]| zstd::encode_all(bytes, 19).unwrap();
        [pack(&file("f")), pack(b"").repeat(n / 2), pack(&tar([]))].concat()
    }),
    ("streams of bzip2 that are nothing", |n| {
        let pack = |bytes: &[u8]| {
            let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
            writer.write_all(bytes).unwrap();
            writer.finish().unwrap()
        };
        [pack(&file("f")), pack(b"").repeat(n / 4), pack(&tar([]))].concat()
    }),
    ("a file of zeros", |n| gzip(&tar([Block::file("f", &vec![0; n * 1000]).bytes()]))),
];

fn packed(numbers: std::ops::Range<usize>, entries: impl Fn(usize) -> Vec<Vec<u8>>) -> Vec<u8> {
    gzip(&tar(numbers.flat_map(entries)))
}
