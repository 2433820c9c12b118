//! Random messages as bytes, made from the schema tables without the generated code.

use super::schema::{Block, Field, Schema, Struct, Type, Versions};

/// A stream of random numbers (splitmix64): the same seed gives the same messages.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// One message of `block` in `version`.
pub fn message(schema: &Schema, block: &Block, version: i16, random: &mut Random) -> Vec<u8> {
    let flexible = block.flexible.is_some_and(|first| version >= first);
    let mut wire = Wire { schema, version, flexible, random, out: Vec::new() };
    wire.body(&block.body);
    wire.out
}

struct Wire<'a> {
    schema: &'a Schema,
    version: i16,
    flexible: bool,
    random: &'a mut Random,
    out: Vec<u8>,
}

impl Wire<'_> {
    fn body(&mut self, body: &Struct) {
        let there = |field: &&Field| field.versions.contains(self.version);
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) =
            body.fields.iter().filter(there).partition(|field| field.tag.is_some());
        for field in plain {
            self.field(field);
        }
        if !self.flexible {
            return;
        }
        let mut sorted: Vec<&Field> = tagged.into_iter().filter(|_| self.random.below(2) == 0).collect();
        sorted.sort_by_key(|field| field.tag);
        self.uvarint(sorted.len() as u32);
        for field in sorted {
            let outer = std::mem::take(&mut self.out);
            self.tagged_value(field);
            let inner = std::mem::replace(&mut self.out, outer);
            self.uvarint(field.tag.unwrap());
            self.uvarint(inner.len() as u32);
            self.out.extend_from_slice(&inner);
        }
    }

    fn field(&mut self, field: &Field) {
        let null = field.null.is_some_and(|versions: Versions| versions.contains(self.version));
        if null && self.random.below(4) == 0 {
            match &field.kind {
                Type::Struct(_) => self.out.push(0xff),
                _ if self.flexible => self.out.push(0),
                Type::String => self.out.extend_from_slice(&[0xff; 2]),
                _ => self.out.extend_from_slice(&[0xff; 4]),
            }
            return;
        }
        if null && matches!(field.kind, Type::Struct(_)) {
            self.out.push(1);
        }
        self.value(&field.kind, false);
    }

    /// A value that differs from every default, because only such values are written with a tag.
    fn tagged_value(&mut self, field: &Field) {
        assert!(field.null.is_none() || matches!(field.kind, Type::String | Type::Array(_)));
        self.value(&field.kind, true);
    }

    fn value(&mut self, kind: &Type, substantial: bool) {
        let least = u64::from(substantial);
        match kind {
            Type::Bool => {
                let byte = self.random.below(2) as u8;
                self.out.push(if substantial { 1 } else { byte });
            }
            Type::I8 => self.number(1, substantial),
            Type::I16 | Type::U16 => self.number(2, substantial),
            Type::I32 | Type::U32 => self.number(4, substantial),
            Type::I64 => self.number(8, substantial),
            Type::F64 => {
                let number = f64::from(self.random.next() as u32);
                self.out.extend_from_slice(&number.to_be_bytes());
            }
            Type::Uuid => {
                self.number(8, true);
                self.number(8, true);
            }
            Type::String => {
                let length = least + self.random.below(12);
                let text: String = (0..length)
                    .map(|_| ['a', 'Z', '0', '.', '-', 'é', '\u{20ac}'][self.random.below(7) as usize])
                    .collect();
                self.length(text.len(), true);
                self.out.extend_from_slice(text.as_bytes());
            }
            Type::Bytes | Type::Records => {
                // Now and then beyond the size from which pieces are passed on by reference.
                let length = least + if self.random.below(8) == 0 { 3000 } else { self.random.below(20) };
                self.length(length as usize, false);
                for _ in 0..length {
                    self.number(1, false);
                }
            }
            Type::Struct(name) => {
                let body = self.schema.find(name).unwrap();
                if substantial {
                    // Structs with a tag consist of numbers and text: none of them at its default is enough.
                    for field in &body.fields {
                        if field.versions.contains(self.version) {
                            self.value(&field.kind, true);
                        }
                    }
                    self.uvarint(0);
                } else {
                    self.body(body);
                }
            }
            Type::Array(element) => {
                let count = least + self.random.below(4);
                self.length(count as usize, false);
                for _ in 0..count {
                    self.value(element, false);
                }
            }
        }
    }

    fn number(&mut self, width: usize, substantial: bool) {
        let mut bytes = self.random.next().to_be_bytes();
        if substantial {
            // Neither 0 nor -1 nor a maximum.
            bytes[8 - width] = 1 + (bytes[8 - width] & 0x3f);
        }
        self.out.extend_from_slice(&bytes[8 - width..]);
    }

    fn length(&mut self, length: usize, short: bool) {
        if self.flexible {
            self.uvarint(length as u32 + 1);
        } else if short {
            self.out.extend_from_slice(&(length as i16).to_be_bytes());
        } else {
            self.out.extend_from_slice(&(length as i32).to_be_bytes());
        }
    }

    fn uvarint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
