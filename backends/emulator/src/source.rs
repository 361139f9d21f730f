//! CUDA C++ as CubeCL writes it, made C++ for the host: what a C++ header cannot express is rewritten
//! as text. That is dynamic shared memory and inline PTX.

/// Words of which one is in every kernel whose lanes meet.
const MEETINGS: [&str; 10] = [
    "cuda::barrier",
    "__syncthreads",
    "__syncwarp",
    "_sync(",
    "__activemask",
    "load_matrix_sync",
    "mma_sync",
    "mma.sync",
    "ldmatrix.sync",
    "elect.sync",
];

/// Rewrites a kernel, and adds the entries that the loader looks for.
///
/// # Errors
///
/// A sentence, if there is no kernel in it or it has PTX that the emulator does not know.
pub(crate) fn rewrite(cuda: &str) -> Result<String, String> {
    let kernel = kernel_name(cuda).ok_or("there is no kernel in this source")?;
    let meets = MEETINGS.iter().any(|word| cuda.contains(word));
    let shared = rewrite_shared(cuda);
    let body = rewrite_assembly(&shared)?;
    Ok(format!(
        "{body}\nextern \"C\" const int emu_meets = {};\n\
         extern \"C\" const char emu_name[] = \"{kernel}\";\n\
         extern \"C\" void emu_entry(void **arguments) {{ emu_enter({kernel}, arguments); }}\n\
         extern \"C\" size_t emu_parameters(size_t *sizes, size_t room) {{ return emu_sizes({kernel}, sizes, room); }}\n",
        i32::from(meets)
    ))
}

/// The identifier in front of the first parenthesis that follows `__global__` and its attributes.
fn kernel_name(cuda: &str) -> Option<String> {
    let mut rest = cuda.split_once("__global__")?.1;
    for attribute in ["__launch_bounds__(", "__cluster_dims__("] {
        if let Some((_, after)) = rest.split_once(attribute) {
            rest = after.split_once(')')?.1;
        }
    }
    let name = rest.split_once('(')?.0.trim();
    let name = name.rsplit(char::is_whitespace).next()?;
    (!name.is_empty()).then(|| name.to_string())
}

/// `extern __shared__ __align__(n) char name[];` is a pointer to the block's memory.
fn rewrite_shared(cuda: &str) -> String {
    const START: &str = "extern __shared__ ";
    let mut text = String::with_capacity(cuda.len());
    let mut rest = cuda;
    while let Some((before, after)) = rest.split_once(START) {
        text.push_str(before);
        let Some((declaration, tail)) = after.split_once("[];") else {
            text.push_str(START);
            rest = after;
            continue;
        };
        let name = declaration.rsplit(char::is_whitespace).next();
        text.push_str(&format!(
            "char *const {} = emu_shared();",
            name.unwrap_or(declaration)
        ));
        rest = tail;
    }
    text + rest
}

/// Every `asm(...)` is a call of a function with the same effect.
fn rewrite_assembly(cuda: &str) -> Result<String, String> {
    let mut text = String::with_capacity(cuda.len());
    let mut rest = cuda;
    while let Some(start) = find_assembly(rest) {
        let (before, statement) = rest.split_at(start);
        text.push_str(before);
        let open = statement.find('(').ok_or("`asm` without a parenthesis")?;
        let close = closing(statement, open).ok_or("`asm` that is not closed")?;
        let assembly = Assembly::parse(&statement[open + 1..close])?;
        text.push_str(&assembly.call()?);
        rest = &statement[close + 1..];
    }
    Ok(text + rest)
}

/// Where the next word `asm` starts.
fn find_assembly(text: &str) -> Option<usize> {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut from = 0;
    while let Some(found) = text[from..].find("asm") {
        let start = from + found;
        let before = text[..start].chars().next_back();
        let after = text[start + 3..].chars().next();
        if !is_word(before) && !is_word(after) {
            return Some(start);
        }
        from = start + 3;
    }
    None
}

/// The parenthesis that closes the one at `open`, with strings skipped.
fn closing(text: &str, open: usize) -> Option<usize> {
    let (mut depth, mut is_string, mut is_escaped) = (0usize, false, false);
    for (place, c) in text.char_indices().skip_while(|(place, _)| *place < open) {
        if is_string {
            is_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            '"' => is_string = true,
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(place);
        }
    }
    None
}

/// An inline statement of PTX: its instruction and the C++ expressions it reads and writes.
#[derive(Debug, PartialEq)]
struct Assembly {
    ptx: String,
    outputs: Vec<String>,
    inputs: Vec<String>,
}

impl Assembly {
    /// Parses what stands between the parentheses: text, outputs, inputs, clobbers.
    fn parse(inside: &str) -> Result<Self, String> {
        let inside = inside.trim_start();
        let end = inside
            .char_indices()
            .skip(1)
            .scan(false, |is_escaped, (place, c)| {
                let ends = c == '"' && !*is_escaped;
                *is_escaped = !*is_escaped && c == '\\';
                Some((place, ends))
            })
            .find(|(_, ends)| *ends)
            .ok_or("`asm` without text")?
            .0;
        let ptx = inside[1..end].replace("\\n", " ");
        let mut lists = split_outside(&inside[end + 1..], ':').into_iter().skip(1);
        let mut operands = || -> Vec<String> {
            let list = lists.next().unwrap_or_default();
            let each = split_outside(&list, ',').into_iter();
            each.filter_map(|operand| {
                let open = operand.find('(')?;
                let close = closing(&operand, open)?;
                Some(operand[open + 1..close].to_string())
            })
            .collect()
        };
        let (outputs, inputs) = (operands(), operands());
        Ok(Self {
            ptx,
            outputs,
            inputs,
        })
    }

    /// The same in C++.
    fn call(&self) -> Result<String, String> {
        let instruction = self.ptx.split_whitespace().next().unwrap_or_default();
        let is = |prefix: &str| instruction.starts_with(prefix);
        let unknown = || format!("the emulator does not know the PTX {:?}", self.ptx);
        let output = || self.outputs.first().ok_or_else(unknown);
        let input = |place: usize| self.inputs.get(place).ok_or_else(unknown);
        let binary = |function: &str| {
            Ok(format!(
                "{} = {function}({}, {})",
                output()?,
                input(0)?,
                input(1)?
            ))
        };
        if self.ptx.contains("elect.sync _|") {
            Ok(format!("{} = emu_elect(__activemask())", output()?))
        } else if is("max.NaN.f32") {
            binary("emu_max_nan")
        } else if is("min.NaN.f32") {
            binary("emu_min_nan")
        } else if is("atom.relaxed.add.") && self.outputs.len() == 1 {
            binary("emu_atomic_add")
        } else if is("atom.relaxed.min.") && self.outputs.len() == 1 {
            binary("emu_atomic_min")
        } else if is("atom.relaxed.max.") && self.outputs.len() == 1 {
            binary("emu_atomic_max")
        } else if is("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32") {
            Ok(self.multiply("EMU_MMA_BF16"))
        } else if is("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32") {
            Ok(self.multiply("EMU_MMA_F16"))
        } else if is("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32") {
            Ok(self.multiply("EMU_MMA_TF32"))
        } else if is("ldmatrix.sync.aligned.m8n8.") {
            Ok(self.load_matrix(instruction.contains(".trans"), input(0)?))
        } else if is("cp.async.mbarrier.arrive.shared::cta.b64") {
            // Arrives when the lane's copies are done, which they are, and counts itself first.
            Ok("(void)0".into())
        } else if is("cp.async.c") {
            self.copy_async()
        } else {
            Err(unknown())
        }
    }

    /// `{d}, {a}, {b}, {c}`: four, four, two and four registers.
    fn multiply(&self, kind: &str) -> String {
        let words = self
            .inputs
            .iter()
            .map(|word| format!("emu_register({word})"));
        let words = words.collect::<Vec<_>>().join(", ");
        let results = (0..self.outputs.len()).map(|i| format!("{} = emu_d[{i}];", self.outputs[i]));
        format!(
            "{{ float emu_d[4]; emu_mma({kind}, emu_site(), emu_d, {{{words}}}); {} }}",
            results.collect::<String>()
        )
    }

    fn load_matrix(&self, is_transposed: bool, address: &str) -> String {
        let kind = if is_transposed {
            "EMU_LDMATRIX_TRANS"
        } else {
            "EMU_LDMATRIX"
        };
        let count = self.outputs.len();
        let results = (0..count).map(|i| format!("{} = emu_out[{i}];", self.outputs[i]));
        format!(
            "{{ unsigned emu_out[4]; emu_ldmatrix({kind}, emu_site(), emu_out, {count}, {address}); {} }}",
            results.collect::<String>()
        )
    }

    /// `[to], [from], size, size of the source;` the sizes are numbers or registers.
    fn copy_async(&self) -> Result<String, String> {
        let unknown = || format!("the emulator does not know the PTX {:?}", self.ptx);
        let sizes: Vec<&str> = self.ptx.trim_end_matches(';').split(',').skip(2).collect();
        let size = |place: usize| -> Result<String, String> {
            let word = sizes.get(place).ok_or_else(unknown)?.trim();
            match word.strip_prefix('%') {
                None => Ok(word.to_string()),
                Some(register) => {
                    let register: usize = register.parse().map_err(|_| unknown())?;
                    let found = self.inputs.get(register - self.outputs.len());
                    found.cloned().ok_or_else(unknown)
                }
            }
        };
        let place = |index: usize| self.inputs.get(index).ok_or_else(unknown);
        Ok(format!(
            "emu_cp_async({}, (const void *)({}), {}, {})",
            place(0)?,
            place(1)?,
            size(0)?,
            size(1)?
        ))
    }
}

/// Splits at a character that is not in parentheses or a string.
fn split_outside(text: &str, at: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut is_string) = (0i32, false);
    for c in text.chars() {
        match c {
            '"' => is_string = !is_string,
            '(' | '[' | '{' if !is_string => depth += 1,
            ')' | ']' | '}' if !is_string => depth -= 1,
            _ => {}
        }
        if c == at && depth == 0 && !is_string {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = r#"extern "C" __global__ void __launch_bounds__(256)  sum_a1(float const* const __restrict__ v1, float * const __restrict__ v2) {
extern __shared__ __align__(4) char v3[];float const v4 = v1[threadIdx.x];
__syncthreads();
}
"#;

    #[test]
    fn the_kernel_is_found_and_shared_memory_is_the_blocks() {
        let source = rewrite(KERNEL).expect("a kernel");
        assert!(source.contains("emu_meets = 1;"));
        assert!(source.contains("char *const v3 = emu_shared();float const v4"));
        assert!(!source.contains("extern __shared__"));
        assert!(source.contains("emu_enter(sum_a1, arguments)"));
        let alone = rewrite(&KERNEL.replace("__syncthreads();", "")).expect("a kernel");
        assert!(alone.contains("emu_meets = 0;"));
        assert!(rewrite("int x;").unwrap_err().contains("no kernel"));
    }

    #[test]
    fn ptx_becomes_a_call_and_what_is_unknown_is_an_error() {
        let atomic = r#"v = [&]{float result; asm volatile("atom.relaxed.add.f32 %0, [%1], %2;" : "=f"(result) : "l"(v1), "f"(v2) : "memory"); return result; }();"#;
        let text = rewrite_assembly(atomic).expect("known");
        assert!(text.contains("result = emu_atomic_add(v1, v2);"), "{text}");
        let copy = r#"asm volatile("cp.async.cg.shared::cta.global [%0], [%1], 16, %2;" : : "r"(v1), "l"(v2), "r"(v3));"#;
        let text = rewrite_assembly(copy).expect("known");
        assert_eq!(text, "emu_cp_async(v1, (const void *)(v2), 16, v3);");
        let elect = r#"asm volatile("{ .reg .pred %%px; elect.sync _|%%px, %mask; selp.b32 %0, 1, 0, %%px; }" : "=r"(result) : );"#;
        let text = rewrite_assembly(elect).expect("known");
        assert_eq!(text, "result = emu_elect(__activemask());");
        let unknown = r#"asm("wgmma.mma_async %0;" : "=r"(x));"#;
        let error = rewrite_assembly(unknown).unwrap_err();
        assert!(error.contains("wgmma"), "{error}");
        assert_eq!(
            rewrite_assembly("int plasma(1);").expect("none"),
            "int plasma(1);"
        );
    }

    #[test]
    fn the_registers_of_a_product_keep_their_order() {
        let product = r#"asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};" : "=f"(r.i_0), "=f"(r.i_1), "=f"(r.i_2), "=f"(r.i_3) : "r"(a.i_0), "r"(a.i_1), "r"(a.i_2), "r"(a.i_3), "r"(b.i_0), "r"(b.i_1), "f"(c.i_0), "f"(c.i_1), "f"(c.i_2), "f"(c.i_3) );"#;
        let text = rewrite_assembly(product).expect("known");
        assert!(text.contains("EMU_MMA_TF32"), "{text}");
        assert!(
            text.contains("emu_register(b.i_1), emu_register(c.i_0)"),
            "{text}"
        );
        assert!(text.contains("r.i_3 = emu_d[3];"), "{text}");
    }
}
