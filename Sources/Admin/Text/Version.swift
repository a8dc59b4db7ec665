// The version that `sheep version`, `dog --version` and the log's first line show.

package let sheepfoldVersion = "0.1.0"
