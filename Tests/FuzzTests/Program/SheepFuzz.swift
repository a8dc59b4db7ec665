// The program around libFuzzer: sheep-fuzz TARGET [options and corpus directories of libFuzzer]. Built only where
// SHEEP_FUZZ is set, by contrib/fuzz. `sheep-fuzz --list` names the targets, `--seeds TARGET DIRECTORY` writes its valid
// inputs. A property that does not hold ends the process like a trap, so that libFuzzer keeps the input.
import Glibc

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<Int32>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>>,
    _ callback: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

/// Set once, before the first input.
nonisolated(unsafe) private var chosen: FuzzTarget!

@main
struct SheepFuzz {
    static func main() {
        let words = CommandLine.arguments
        switch (words.count > 1 ? words[1] : "", words.count) {
        case ("--list", 2):
            for target in FuzzTarget.all { print(target.name, target.maximumBytes, target.summary, separator: "\t") }
            return
        case ("--seeds", 4):
            guard let target = FuzzTarget.named(words[2]) else { return usage() }
            for (number, seed) in target.seeds().enumerated() { write(seed, "\(words[3])/seed-\(number)") }
            return
        default: break
        }
        // When libFuzzer starts itself once more (to merge, to fork), it leaves out what is not its own.
        let named = words.count > 1 ? FuzzTarget.named(words[1]) : nil
        let inherited = getenv(variable).flatMap { FuzzTarget.named(String(cString: $0)) }
        guard let target = named ?? inherited else { return usage() }
        chosen = target
        setenv(variable, target.name, 1)
        let rest = [words[0]] + words.dropFirst(named == nil ? 1 : 2)
        var arguments = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: rest.count + 1)
        for (at, word) in rest.enumerated() { arguments[at] = strdup(word) }
        arguments[rest.count] = nil
        var count = Int32(rest.count)
        exit(
            runDriver(&count, &arguments) { bytes, count in
                let input = Array(UnsafeBufferPointer(start: bytes, count: count))
                if let problem = chosen.run(input) { fatalError("\(chosen.name): \(problem)") }
                return 0
            })
    }

    private static let variable = "SHEEP_FUZZ_TARGET"

    private static func usage() {
        let text = "sheep-fuzz --list | --seeds TARGET DIRECTORY | TARGET [OPTIONS] [CORPUS ...]\n"
        _ = Glibc.write(2, text, text.utf8.count)
        exit(2)
    }

    private static func write(_ bytes: [UInt8], _ path: String) {
        guard let file = fopen(path, "w") else {
            perror(path)
            exit(1)
        }
        fwrite(bytes, 1, bytes.count, file)
        fclose(file)
    }
}
