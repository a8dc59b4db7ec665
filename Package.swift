// swift-tools-version: 6.2
// The layering: a target imports only rows below it (man/sheep-architecture.7, "Layers").
import PackageDescription

let strict = Context.environment["CI"] != nil
/// Rules that can be broken on purpose (Saboteur): in debug builds, and in builds that are only for that.
let sabotage: [SwiftSetting] =
    Context.environment["SHEEP_SABOTEURS"] != nil
    ? [.define("SABOTEURS")] : [.define("SABOTEURS", .when(configuration: .debug))]
let settings: [SwiftSetting] =
    sabotage + [
        .swiftLanguageMode(.v6),
        .enableUpcomingFeature("MemberImportVisibility"),
        .enableUpcomingFeature("ExistentialAny"),
    ] + (strict ? [.treatAllWarnings(as: .error)] : [])

func library(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: settings)
}
func tests(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .testTarget(
        name: name + "Tests", dependencies: [.byName(name: name)] + dependencies,
        exclude: name == "Simulator" ? ["Golden"] : [], swiftSettings: settings)
}
let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let collections: Target.Dependency = .product(name: "OrderedCollections", package: "swift-collections")

// The fuzzers: the same drivers as FuzzTests, as a program around libFuzzer (contrib/fuzz). Never both at once.
let fuzzDependencies: [Target.Dependency] = [
    "Model", "Placement", "ObjectStore", "Wire", "Catalog", "Replication", "Runtime", "Fuse", "Filesystem", "Admin",
    "TestSupport", logging, collections,
]
let fuzzing: Target =
    Context.environment["SHEEP_FUZZ"] != nil
    ? .executableTarget(
        name: "sheep-fuzz", dependencies: fuzzDependencies, path: "Tests/FuzzTests", exclude: ["Corpus", "Suite"],
        swiftSettings: settings)
    : .testTarget(
        name: "FuzzTests", dependencies: fuzzDependencies, exclude: ["Corpus", "Program"], swiftSettings: settings)

let package = Package(
    name: "sheepfold",
    products: [
        .executable(name: "sheep", targets: ["sheep"]),
        .executable(name: "dog", targets: ["dog"]),
        .executable(name: "sheep-holder", targets: ["sheep-holder"]),
        .executable(name: "sheep-bench", targets: ["sheep-bench"]),
        .executable(name: "sheep-sim", targets: ["sheep-sim"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
    ],
    targets: [
        // C: system libraries and small shims.
        .systemLibrary(name: "CFuse", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),
        .target(name: "CSheep"),
        // Row 0
        library("Model", ["CSheep"]),
        // Row 1
        library("Placement", ["Model"]),
        library("ObjectStore", ["Model", .product(name: "DequeModule", package: "swift-collections")]),
        library("Wire", ["Model"]),
        // Row 2
        library("Catalog", ["Model", "Placement", collections]),
        // Row 3
        library(
            "Replication",
            [
                "Model", "Placement", "ObjectStore", "Wire", "Catalog", collections,
                .product(name: "DequeModule", package: "swift-collections"),
            ]),
        // Row 4
        library("Runtime", ["Model", "CSheep", logging]),
        // Row 5
        library("Fuse", ["Model", "CFuse", "CSheep", "Runtime"]),
        // Row 6
        library("Filesystem", ["Model", "Catalog", "Replication", "Runtime", "Fuse", logging, collections]),
        library("Admin", ["Model", "Catalog", "Replication", "Runtime", logging, collections]),
        library(
            "Simulator", ["Model", "Placement", "ObjectStore", "Wire", "Catalog", "Replication", collections]),
        // Row 7
        .executableTarget(
            name: "sheep",
            dependencies: [
                "CSheep", "Model", "Placement", "ObjectStore", "Catalog", "Replication", "Runtime", "Fuse",
                "Filesystem",
                "Admin", argumentParser, logging,
            ], swiftSettings: settings),
        .executableTarget(
            name: "dog", dependencies: ["Model", "Admin", "Runtime", argumentParser], swiftSettings: settings),
        .executableTarget(
            name: "sheep-bench", dependencies: ["Model", "Placement", argumentParser], swiftSettings: settings),
        .executableTarget(
            name: "sheep-sim", dependencies: ["Model", "Simulator", argumentParser], swiftSettings: settings),
        .executableTarget(name: "sheep-holder", dependencies: ["CFuse"]),
        .executableTarget(
            name: "fuse-testserver", dependencies: ["Fuse", "Model", "Runtime"], path: "Tests/FuseTestServer",
            swiftSettings: settings),

        // What several test targets use: the simulator's virtual time and disks, settings from the environment.
        .target(
            name: "TestSupport", dependencies: ["Model", "Catalog", "Replication", "Simulator", collections],
            path: "Tests/Support", swiftSettings: settings),
        tests("Model"),
        tests("Placement", ["Model"]),
        tests("ObjectStore", ["Model", "TestSupport"]),
        tests("Wire", ["Model", "TestSupport"]),
        tests("Catalog", ["Model", "Placement", "Simulator", "TestSupport", collections]),
        tests(
            "Replication",
            ["Model", "ObjectStore", "Wire", "Catalog", "Placement", "Simulator", "TestSupport", collections]),
        tests("Simulator", ["TestSupport"]),
        tests("Runtime", ["Model"]),
        tests("Fuse", ["Model", "fuse-testserver", "sheep-holder"]),
        tests("Filesystem", ["Model", "Catalog", "Replication", "Fuse", logging, collections]),
        tests("Admin", ["Model", "Catalog", "Replication", "Runtime", "TestSupport", logging, collections]),
        fuzzing,
    ]
)
