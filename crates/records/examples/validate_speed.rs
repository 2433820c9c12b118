//! How long the checks at the door take: `cargo run --release -p chronik-records --example validate_speed`.

use std::hint::black_box;
use std::time::Instant;

use chronik_records::{BatchBuilder, BatchOptions, Compression, ProduceRules, validate_produce};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rules = ProduceRules { timestamp_after_max_ms: i64::MAX, ..Default::default() };
    println!("{:>8} {:>8} {:>10} {:>12} {:>12}", "codec", "records", "bytes", "ns/batch", "ns/record");
    for codec in Compression::ALL {
        for count in [1usize, 10, 1_000] {
            let options = BatchOptions { encoding: codec.into(), ..Default::default() };
            let mut builder = BatchBuilder::new(options);
            let mut noise = 1u32;
            for i in 0..count {
                let value: Vec<u8> = (0..256)
                    .map(|_| {
                        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        b"abcdefghijklmnop"[(noise >> 28) as usize]
                    })
                    .collect();
                builder.append(i as i64, Some(b"key-0001"), Some(&value), &[])?;
            }
            let batch = builder.finish()?;
            let rounds = (20_000_000 / (batch.len() + 2_000)).max(10);
            let start = Instant::now();
            for _ in 0..rounds {
                black_box(validate_produce(black_box(batch.clone()), &rules, 0))?;
            }
            let nanos = start.elapsed().as_nanos() as f64 / rounds as f64;
            println!(
                "{:>8} {count:>8} {:>10} {nanos:>12.0} {:>12.1}",
                codec.name(),
                batch.len(),
                nanos / count as f64
            );
        }
    }
    Ok(())
}
