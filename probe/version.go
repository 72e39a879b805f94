package probe

import (
	"runtime/debug"
	"time"
)

// Set by the linker: see the Makefile.
var buildVersion, buildTime string

// Version is this build's version: from the linker, else from the module.
func Version() string {
	if buildVersion != "" {
		return buildVersion
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "dev"
}

// BuildTime is when this program was built, if the linker was told; else zero.
func BuildTime() time.Time {
	t, err := time.Parse(time.RFC3339, buildTime)
	if err != nil {
		return time.Time{}
	}
	return t
}
