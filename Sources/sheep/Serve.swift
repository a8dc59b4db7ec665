// The daemon itself: from checked options to a running node. The seam between words and wiring.
import Admin
import Model

/// Runs the node until it is told to end. Returns the process's exit status.
func serve(_ options: ServeOptions) throws(SheepError) -> Int32 {
    throw SheepError(
        .notSupported, what: "sheep was not started", why: "this build has no node in it",
        remedy: "use a build that has")
}
