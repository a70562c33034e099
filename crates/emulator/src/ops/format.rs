//! C's format strings, for the device's `printf`.

use std::fmt::Write as _;

/// Widths and precisions above this are cut, so that a format cannot ask for memory without bound.
const MAX_WIDTH: i64 = 4096;

/// Where the arguments of a format come from.
pub(crate) trait Arguments {
    /// The next argument of 4 or 8 bytes, aligned to its size.
    fn next(&mut self, bytes: u32) -> u64;
    /// The string at an address.
    fn string(&mut self, address: u64) -> String;
}

/// One conversion: `%-08.3lf`.
#[derive(Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    alternate: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
    /// Bytes of an integer argument as written: 1 for `hh`, 2 for `h`, 4, 8 for `l` and more.
    bytes: u32,
}

/// Writes a format with its arguments; gives the number of arguments used.
pub(crate) fn format(text: &str, arguments: &mut impl Arguments, out: &mut String) -> i32 {
    let mut used = 0;
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let start = &rest[at..];
        rest = &start[1..];
        let mut number = |rest: &mut &str, used: &mut i32| -> Option<i64> {
            if let Some(after) = rest.strip_prefix('*') {
                *rest = after;
                *used += 1;
                return Some(i64::from(arguments.next(4) as i32));
            }
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let value = rest[..digits].parse().ok().or((digits > 0).then_some(MAX_WIDTH));
            *rest = &rest[digits..];
            value
        };
        let mut spec = Spec { bytes: 4, ..Spec::default() };
        while let Some(flag) = rest.chars().next().filter(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                ' ' => spec.space = true,
                '#' => spec.alternate = true,
                _ => spec.zero = true,
            }
            rest = &rest[1..];
        }
        if let Some(width) = number(&mut rest, &mut used) {
            spec.left |= width < 0;
            spec.width = width.abs().min(MAX_WIDTH) as usize;
        }
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            let precision = number(&mut rest, &mut used).unwrap_or(0);
            // A negative precision is as none.
            spec.precision = usize::try_from(precision.min(MAX_WIDTH)).ok();
        }
        while let Some(size) = rest.chars().next().filter(|c| "hlzjtLq".contains(*c)) {
            spec.bytes = match (size, spec.bytes) {
                ('h', 2) => 1,
                ('h', _) => 2,
                _ => 8,
            };
            rest = &rest[1..];
        }
        let Some(conversion) = rest.chars().next() else {
            // The text ends within a conversion: it stands for itself.
            out.push_str(start);
            return used;
        };
        rest = &rest[conversion.len_utf8()..];
        if conversion == '%' {
            out.push('%');
            continue;
        }
        let wide = if spec.bytes == 8 { 8 } else { 4 };
        match conversion {
            'd' | 'i' => {
                let bits = arguments.next(wide);
                let up = 64 - 8 * spec.bytes;
                let value = (bits << up) as i64 >> up;
                let sign = if value < 0 { "-" } else { spec.sign() };
                spec.integer(out, sign, &value.unsigned_abs().to_string());
            }
            'u' | 'o' | 'x' | 'X' => {
                let up = 64 - 8 * spec.bytes;
                let value = arguments.next(wide) << up >> up;
                spec.unsigned(out, conversion, value);
            }
            'p' => {
                let text = format!("{:x}", arguments.next(8));
                spec.integer(out, "0x", &text);
            }
            'c' => {
                let text = char::from(arguments.next(4) as u8).to_string();
                spec.pad(out, "", &text, false);
            }
            's' => {
                let address = arguments.next(8);
                let text = arguments.string(address);
                let cut = spec.precision.unwrap_or(usize::MAX);
                let text: String = text.chars().take(cut).collect();
                spec.pad(out, "", &text, false);
            }
            'f' | 'F' | 'e' | 'E' | 'g' | 'G' | 'a' | 'A' => {
                let value = f64::from_bits(arguments.next(8));
                spec.float(out, conversion, value);
            }
            _ => {
                // Not a conversion: it stands for itself, and takes no argument.
                out.push_str(&start[..start.len() - rest.len()]);
                continue;
            }
        }
        used += 1;
    }
    out.push_str(rest);
    used
}

impl Spec {
    /// What stands before a number that is not negative.
    fn sign(&self) -> &'static str {
        match (self.plus, self.space) {
            (true, _) => "+",
            (_, true) => " ",
            _ => "",
        }
    }

    /// Writes text behind a prefix in the field's width; zeros go between the two.
    fn pad(&self, out: &mut String, prefix: &str, text: &str, zeros: bool) {
        let len = prefix.chars().count() + text.chars().count();
        let missing = self.width.saturating_sub(len);
        let fill = |out: &mut String, c: char| out.extend(std::iter::repeat_n(c, missing));
        match (self.left, zeros) {
            (true, _) => {
                out.push_str(prefix);
                out.push_str(text);
                fill(out, ' ');
            }
            (false, true) => {
                out.push_str(prefix);
                fill(out, '0');
                out.push_str(text);
            }
            (false, false) => {
                fill(out, ' ');
                out.push_str(prefix);
                out.push_str(text);
            }
        }
    }

    fn integer(&self, out: &mut String, prefix: &str, digits: &str) {
        let text = match self.precision {
            Some(0) if digits == "0" => String::new(),
            Some(p) => format!("{digits:0>p$}"),
            None => digits.to_owned(),
        };
        // A precision switches the flag `0` off.
        self.pad(out, prefix, &text, self.zero && self.precision.is_none());
    }

    fn unsigned(&self, out: &mut String, conversion: char, value: u64) {
        let (digits, prefix) = match conversion {
            'o' => (format!("{value:o}"), ""),
            'x' => (format!("{value:x}"), if value != 0 { "0x" } else { "" }),
            'X' => (format!("{value:X}"), if value != 0 { "0X" } else { "" }),
            _ => (value.to_string(), ""),
        };
        let digits = match conversion {
            'o' if self.alternate && !digits.starts_with('0') => format!("0{digits}"),
            _ => digits,
        };
        self.integer(out, if self.alternate { prefix } else { "" }, &digits);
    }

    fn float(&self, out: &mut String, conversion: char, value: f64) {
        let sign = if value.is_sign_negative() { "-" } else { self.sign() };
        let size = value.abs();
        let upper = conversion.is_ascii_uppercase();
        let cased = |text: String| if upper { text.to_uppercase() } else { text };
        if !size.is_finite() {
            let text = if size.is_nan() { "nan" } else { "inf" };
            self.pad(out, sign, &cased(text.to_owned()), false);
            return;
        }
        let precision = self.precision.unwrap_or(6);
        match conversion.to_ascii_lowercase() {
            'f' => self.pad(out, sign, &self.fixed(size, precision), self.zero),
            'e' => self.pad(out, sign, &cased(self.exponent(size, precision)), self.zero),
            'g' => self.pad(out, sign, &cased(self.general(size, precision)), self.zero),
            _ => {
                let prefix = format!("{sign}{}", if upper { "0X" } else { "0x" });
                self.pad(out, &prefix, &cased(self.hexadecimal(size)), self.zero);
            }
        }
    }

    fn fixed(&self, size: f64, precision: usize) -> String {
        let mut text = format!("{size:.precision$}");
        if self.alternate && precision == 0 {
            text.push('.');
        }
        text
    }

    /// `1.5e+00`: C writes the sign and at least two digits of the exponent.
    fn exponent(&self, size: f64, precision: usize) -> String {
        let text = format!("{size:.precision$e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let dot = if self.alternate && precision == 0 { "." } else { "" };
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{digits}{dot}e{sign}{:02}", exponent.abs())
    }

    fn general(&self, size: f64, precision: usize) -> String {
        let precision = precision.max(1);
        let text = format!("{size:.*e}", precision - 1);
        let exponent: i64 = text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
        let trim = |text: String| match self.alternate || !text.contains('.') {
            true => text,
            false => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        };
        if exponent < -4 || exponent >= precision as i64 {
            let text = self.exponent(size, precision - 1);
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
            format!("{}e{exponent}", trim(digits.to_owned()))
        } else {
            trim(self.fixed(size, (precision as i64 - 1 - exponent) as usize))
        }
    }

    /// `1.8p+1`, without its `0x`.
    fn hexadecimal(&self, size: f64) -> String {
        let bits = size.to_bits();
        let biased = (bits >> 52) as i64;
        let mut mantissa = bits & ((1 << 52) - 1);
        let mut exponent = if biased == 0 { -1022 } else { biased - 1023 };
        if size == 0.0 {
            exponent = 0;
        }
        let mut lead = u64::from(biased != 0);
        let mut digits = 13;
        if let Some(p) = self.precision.filter(|&p| p < 13) {
            // Round to even at the digit asked for; a carry may reach the digit before the point.
            let cut = 52 - 4 * p as u32;
            let whole = lead << 52 | mantissa;
            let (half, low) = (1u64 << (cut - 1), whole & ((1 << cut) - 1));
            let mut kept = whole >> cut;
            kept += u64::from(low > half || low == half && kept & 1 == 1);
            lead = kept >> (4 * p);
            mantissa = kept & ((1 << (4 * p)) - 1);
            digits = p;
        }
        let mut text = format!("{lead}");
        let fraction = match digits {
            0 => String::new(),
            _ => format!("{mantissa:0digits$x}"),
        };
        let fraction = match self.precision {
            Some(p) => format!("{fraction:0<p$}"),
            None => fraction.trim_end_matches('0').to_owned(),
        };
        if !fraction.is_empty() || self.alternate {
            text.push('.');
            text.push_str(&fraction);
        }
        let sign = if exponent < 0 { '-' } else { '+' };
        // Writing to a string does not fail.
        let _ = write!(text, "p{sign}{}", exponent.abs());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Arguments with their sizes, checked; strings are numbered.
    struct List(Vec<(u32, u64)>);

    impl Arguments for List {
        fn next(&mut self, bytes: u32) -> u64 {
            let (size, value) = self.0.remove(0);
            assert_eq!(size, bytes, "size of an argument");
            value
        }

        fn string(&mut self, address: u64) -> String {
            ["", "one", "two words"][address as usize].to_owned()
        }
    }

    fn int(v: i32) -> (u32, u64) {
        (4, u64::from(v as u32))
    }

    fn long(v: i64) -> (u32, u64) {
        (8, v as u64)
    }

    fn double(v: f64) -> (u32, u64) {
        (8, v.to_bits())
    }

    #[test]
    fn formats_are_those_of_c() {
        type Case<'a> = (&'a str, &'a [(u32, u64)], &'a str);
        let cases: &[Case<'_>] = &[
            ("plain", &[], "plain"),
            ("100%% of %d\n", &[int(-7)], "100% of -7\n"),
            ("[%5d|%-5d|%05d|%+d|% d]", &[int(42); 5], "[   42|42   |00042|+42| 42]"),
            ("[%05d|%.4d|%8.4d|%-8.4d|]", &[int(-42); 4], "[-0042|-0042|   -0042|-0042   |]"),
            ("%.0d|%.0x|%d", &[int(0); 3], "||0"),
            ("%u %x %X %o", &[int(-1); 4], "4294967295 ffffffff FFFFFFFF 37777777777"),
            (
                "%#x %#X %#o %#x %08x %#08x",
                &[int(10), int(10), int(10), int(0), int(10), int(10)],
                "0xa 0XA 012 0 0000000a 0x00000a",
            ),
            (
                "%hhd %hd %hhu %hu",
                &[int(0x1ff), int(0x1_8000), int(0x1ff), int(0x1_8000)],
                "-1 -32768 255 32768",
            ),
            (
                "%ld %lld %lu %llx %zu",
                &[long(-5), long(i64::MIN), long(-1), long(-1), long(9)],
                "-5 -9223372036854775808 18446744073709551615 ffffffffffffffff 9",
            ),
            (
                "%*d|%-*d|%*d|%.*f",
                &[int(4), int(1), int(4), int(2), int(-4), int(3), int(2), double(1.0)],
                "   1|2   |3   |1.00",
            ),
            ("%c%c %3c|%-3c|", &[int(72), int(105), int(33), int(33)], "Hi   !|!  |"),
            (
                "%s, %s|%5s|%-5s|%.2s|",
                &[long(1), long(2), long(1), long(1), long(1)],
                "one, two words|  one|one  |on|",
            ),
            ("%p", &[long(0x2000_0000_0000)], "0x200000000000"),
        ];
        for (text, arguments, want) in cases {
            let mut out = String::new();
            let mut list = List(arguments.to_vec());
            let used = format(text, &mut list, &mut out);
            assert_eq!(out, *want, "{text}");
            assert_eq!(used as usize, arguments.len(), "{text}");
        }
    }

    #[test]
    fn floats_are_those_of_c() {
        for (text, value, want) in [
            ("%f", 1.5, "1.500000"),
            ("%.2f", 2.675, "2.67"),
            ("%8.3f|", -2.5, "  -2.500|"),
            ("%-8.1f|", 0.25, "0.2     |"),
            ("%08.2f", -3.15159, "-0003.15"),
            ("%+.0f", 2.5, "+2"),
            ("%#.0f", 2.0, "2."),
            ("%f", 1e20, "100000000000000000000.000000"),
            ("%f", f64::NAN, "nan"),
            ("%5.1f", f64::INFINITY, "  inf"),
            ("%F", f64::NEG_INFINITY, "-INF"),
            ("%06.1f", f64::INFINITY, "   inf"),
            ("%e", 12345.678, "1.234568e+04"),
            ("%.0e", 12345.678, "1e+04"),
            ("%#.0e", 12345.678, "1.e+04"),
            ("%.3E", 1.5e-300, "1.500E-300"),
            ("%e", 0.0, "0.000000e+00"),
            ("%g", 0.0001, "0.0001"),
            ("%g", 0.00001, "1e-05"),
            ("%g", 123456.0, "123456"),
            ("%g", 1234567.0, "1.23457e+06"),
            ("%g", 100000.0, "100000"),
            ("%g", 999999.5, "1e+06"),
            ("%.3g", 3.15159, "3.15"),
            ("%#g", 1.0, "1.00000"),
            ("%G", 1e-10, "1E-10"),
            ("%g", -0.0, "-0"),
            ("%.0g", 15.0, "2e+01"),
            ("%a", 1.0, "0x1p+0"),
            ("%a", 3.0, "0x1.8p+1"),
            ("%a", -0.1, "-0x1.999999999999ap-4"),
            ("%.2a", 0.1, "0x1.9ap-4"),
            ("%.0a", 1.5, "0x2p+0"),
            ("%A", 255.0, "0X1.FEP+7"),
            ("%a", 0.0, "0x0p+0"),
            ("%a", f64::from_bits(1), "0x0.0000000000001p-1022"),
            ("%12a|", 1.0, "      0x1p+0|"),
            ("%012a|", 1.0, "0x0000001p+0|"),
        ] {
            let mut out = String::new();
            format(text, &mut List(vec![double(value)]), &mut out);
            assert_eq!(out, want, "{text} of {value}");
        }
    }

    #[test]
    fn what_is_no_conversion_stands_for_itself() {
        for text in ["%", "50%", "%y", "%-5", "%5.", "%l"] {
            let mut out = String::new();
            assert_eq!(format(text, &mut List(Vec::new()), &mut out), 0);
            assert_eq!(out, text);
        }
        let mut out = String::new();
        format("%99999999999999999999d", &mut List(vec![int(1)]), &mut out);
        assert_eq!(out.len(), 4096);
    }
}
