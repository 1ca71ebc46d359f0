// Short unfinished files, ordinary ones, to try the model on. `|` is where the cursor stands.

export const EXAMPLES = {
  python: {
    label: "Python",
    text: `import os


def newest_file(folder):
    """Return the path of the file in folder that was changed last, or None."""
    newest = None
    for name in os.listdir(folder):
        path = os.path.|

    return newest


class Stack:
    """Last in, first out."""

    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)

    def pop(self):
        return self.items.pop()
`,
  },
  javascript: {
    label: "JavaScript",
    text: `// Count how often each word occurs.
export function countWords(text) {
  const counts = new Map();
  for (const word of text.toLowerCase().split(/\\s+/)) {
    |
  }
  return counts;
}
`,
  },
  typescript: {
    label: "TypeScript",
    text: `interface Point {
  x: number;
  y: number;
}

function distance(a: Point, b: Point): number {
  |
}
`,
  },
  java: {
    label: "Java",
    text: `import java.util.ArrayList;
import java.util.List;

class Stack<T> {
    private final List<T> items = new ArrayList<>();

    void push(T item) {
        |
    }

    boolean isEmpty() {
        return items.isEmpty();
    }
}
`,
  },
  c: {
    label: "C",
    text: `#include <stddef.h>

/* Largest value, or fallback when there is none. */
int largest(const int *values, size_t count, int fallback) {
    int best = fallback;
    for (size_t i = 0; i < count; i++) {
        |
    }
    return best;
}
`,
  },
  cpp: {
    label: "C++",
    text: `#include <string>
#include <vector>

std::string join(const std::vector<std::string>& parts, const std::string& separator) {
    std::string result;
    for (const auto& part : parts) {
        |
    }
    return result;
}
`,
  },
  go: {
    label: "Go",
    text: `package main

import "fmt"

func sum(values []int) int {
	total := 0
	|
	return total
}

func main() {
	fmt.Println(sum([]int{1, 2, 3}))
}
`,
  },
  rust: {
    label: "Rust",
    text: `/// Greatest common divisor.
fn gcd(a: u64, b: u64) -> u64 {
    |
}

fn main() {
    println!("{}", gcd(12, 18));
}
`,
  },
};

/** An example as text and the offset of its cursor. */
export function exampleOf(language) {
  const [before, after] = EXAMPLES[language].text.split("|");
  return { text: before + after, cursor: before.length };
}
