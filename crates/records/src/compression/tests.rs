use std::io::Write;

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn sample(size: usize) -> Vec<u8> {
    (0..size).map(|i| ((i / 7) as u8).wrapping_mul(31) ^ (i % 5) as u8).collect()
}

proptest! {
    #[test]
    fn round_trips(data in proptest::collection::vec(any::<u8>(), 0..3000), repeat in 1usize..40) {
        let data = data.repeat(repeat);
        for codec in Compression::ALL {
            let packed = compress(codec.into(), &data).unwrap();
            prop_assert_eq!(&decompress(codec, &packed, data.len()).unwrap(), &data, "{}", codec);
        }
    }

    #[test]
    fn damaged_input_never_panics(at in any::<proptest::sample::Index>(), value in any::<u8>(), cut in any::<proptest::sample::Index>()) {
        let data = sample(5_000);
        for codec in CODECS {
            let mut packed = compress(codec.into(), &data).unwrap();
            let at = at.index(packed.len());
            packed[at] = value;
            let _ = decompress(codec, &packed, 10_000);
            packed.truncate(cut.index(packed.len()));
            let _ = decompress(codec, &packed, 10_000);
        }
    }

    #[test]
    fn noise_never_panics(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        for codec in CODECS {
            let _ = decompress(codec, &data, 10_000);
        }
    }
}

#[test]
fn bombs_stop_at_the_limit() {
    let zeros = vec![0u8; 64 << 20];
    for codec in CODECS {
        let packed = compress(codec.into(), &zeros).unwrap();
        match decompress(codec, &packed, 1 << 20) {
            Err(e @ CompressionError::Limit { limit: 1_048_576 }) => {
                let text = e.to_string();
                assert!(text.contains("max.decompressed.bytes") && text.contains("1048576"), "{text}");
            }
            other => panic!("{codec}: {:?}", other.map(|out| out.len())),
        }
    }
}

#[test]
fn a_raw_snappy_block_is_read() {
    let data = sample(100_000);
    let raw = snap::raw::Encoder::new().compress_vec(&data).unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw, data.len()).unwrap(), data);
    assert!(matches!(
        decompress(Compression::Snappy, &raw, data.len() - 1),
        Err(CompressionError::Limit { .. })
    ));
}

#[test]
fn a_snappy_block_that_states_too_much_is_damaged() {
    // A varint for 1 GiB and nothing behind it.
    let lie = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00];
    assert!(matches!(
        decompress(Compression::Snappy, &lie, usize::MAX),
        Err(CompressionError::Corrupt { compression: Compression::Snappy, .. })
    ));
}

#[test]
fn xerial_streams_may_follow_each_other() {
    let mut twice = compress(Compression::Snappy.into(), b"one ").unwrap();
    twice.extend(compress(Compression::Snappy.into(), b"two").unwrap());
    assert_eq!(decompress(Compression::Snappy, &twice, 100).unwrap(), b"one two");
}

#[test]
fn every_kind_of_lz4_frame_is_read() {
    let data = sample(300_000);
    for mode in [BlockMode::Independent, BlockMode::Linked] {
        for size in [BlockSize::Max64KB, BlockSize::Max4MB] {
            for checksums in [false, true] {
                let info = FrameInfo::new()
                    .block_mode(mode)
                    .block_size(size)
                    .block_checksums(checksums)
                    .content_checksum(checksums)
                    .content_size(checksums.then_some(data.len() as u64));
                let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(&data).unwrap();
                let packed = encoder.finish().unwrap();
                assert_eq!(decompress(Compression::Lz4, &packed, data.len()).unwrap(), data);
            }
        }
    }
    let mut encoder = FrameEncoder::with_frame_info(FrameInfo::new().legacy_frame(true), Vec::new());
    encoder.write_all(&data).unwrap();
    let packed = encoder.finish().unwrap();
    assert_eq!(decompress(Compression::Lz4, &packed, data.len()).unwrap(), data);
}

#[test]
fn a_zstd_window_beyond_the_maximum_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(ZSTD_WINDOW_LOG_MAX + 1).unwrap();
    encoder.write_all(&sample(1000)).unwrap();
    let packed = encoder.finish().unwrap();
    assert!(matches!(decompress(Compression::Zstd, &packed, 10_000), Err(CompressionError::Corrupt { .. })));
}

#[test]
fn names_are_kafkas() {
    for codec in Compression::ALL {
        assert_eq!(codec.name().parse(), Ok(codec));
        assert_eq!(Compression::from_id(codec.id()), Some(codec));
    }
    assert_eq!("uncompressed".parse(), Ok(Compression::None));
    assert!("GZIP".parse::<Compression>().is_err());
    assert_eq!(Compression::from_id(5), None);
}

#[test]
fn levels_are_obeyed_or_refused() {
    let data = sample(50_000);
    for compression in [Compression::Gzip, Compression::Zstd] {
        let fast = compress(Encoding { compression, level: Some(1) }, &data).unwrap();
        let small = compress(Encoding { compression, level: Some(9) }, &data).unwrap();
        assert!(small.len() <= fast.len());
        assert_eq!(decompress(compression, &small, data.len()).unwrap(), data);
    }
}
