package portal

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// palette is the colours of one theme, by name without the dashes.
type palette map[string][3]float64 // sRGB, 0 to 1

var colorForm = regexp.MustCompile(`--([a-z-]+):\s*#([0-9A-Fa-f]{6});`)

// parsePalettes reads the two blocks of custom properties from the style sheet.
func parsePalettes(t *testing.T) (light, dark palette) {
	t.Helper()
	css := string(styleSheet)
	blocks := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatchIndex(css, -1)
	if len(blocks) != 2 {
		t.Fatalf("the style sheet has %d blocks of colours, want 2", len(blocks))
	}
	if before := css[:blocks[1][0]]; !strings.HasSuffix(strings.TrimSpace(before), "@media screen and (prefers-color-scheme: dark) {") {
		t.Fatal("the second block of colours is not that of the dark screen")
	}
	read := func(b []int) palette {
		out := make(palette)
		for _, m := range colorForm.FindAllStringSubmatch(css[b[2]:b[3]], -1) {
			n, err := strconv.ParseUint(m[2], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			out[m[1]] = [3]float64{float64(n>>16) / 255, float64(n>>8&255) / 255, float64(n&255) / 255}
		}
		return out
	}
	light, dark = read(blocks[0]), read(blocks[1])
	if len(light) < 20 || len(light) != len(dark) {
		t.Fatalf("%d colours for light, %d for dark", len(light), len(dark))
	}
	return light, dark
}

func linear(c [3]float64) [3]float64 {
	for i, x := range c {
		if x <= 0.04045 {
			c[i] = x / 12.92
		} else {
			c[i] = math.Pow((x+0.055)/1.055, 2.4)
		}
	}
	return c
}

// contrast is that of WCAG 2.2.
func contrast(a, b [3]float64) float64 {
	luminance := func(c [3]float64) float64 {
		l := linear(c)
		return 0.2126*l[0] + 0.7152*l[1] + 0.0722*l[2]
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

// A text needs 4.5, a shape 3; what the palette had when it was chosen, it keeps.
func TestContrast(t *testing.T) {
	light, dark := parsePalettes(t)
	for _, c := range []struct {
		theme  string
		colors palette
		fg, bg string
		least  float64
	}{
		{"light", light, "ink", "page", 15.15}, {"light", light, "ink", "surface", 16.4},
		{"light", light, "muted", "page", 5.9}, {"light", light, "muted", "surface", 6.38},
		{"light", light, "action", "page", 8.71}, {"light", light, "action", "surface", 9.44},
		{"light", light, "on-action", "action", 9.44}, {"light", light, "page", "ink", 15.15},
		{"light", light, "up", "page", 4.96}, {"light", light, "up", "surface", 5.37},
		{"light", light, "degraded-text", "page", 5.99}, {"light", light, "degraded-text", "surface", 6.5},
		{"light", light, "degraded", "page", 3.44}, {"light", light, "degraded", "surface", 3.73}, {"light", light, "degraded", "land", 3.08},
		{"light", light, "down", "page", 6.98}, {"light", light, "down", "surface", 7.56}, {"light", light, "down", "land", 3},
		{"light", light, "unknown", "page", 4.59}, {"light", light, "unknown", "surface", 4.97}, {"light", light, "unknown", "land", 3},
		{"light", light, "no-coverage", "page", 11.7}, {"light", light, "no-coverage", "surface", 12.7},
		{"light", light, "up", "land", 3}, {"light", light, "muted", "land", 4.5},
		{"light", light, "down", "down-pale", 3}, {"light", light, "up", "up-pale", 3},
		{"dark", dark, "ink", "page", 15.6}, {"dark", dark, "ink", "surface", 14.1},
		{"dark", dark, "muted", "page", 8.28}, {"dark", dark, "muted", "surface", 7.45},
		{"dark", dark, "action", "page", 9.99}, {"dark", dark, "action", "surface", 9},
		{"dark", dark, "on-action", "action", 9.95}, {"dark", dark, "page", "ink", 15.6},
		{"dark", dark, "up", "page", 7.09}, {"dark", dark, "up", "surface", 6.38},
		{"dark", dark, "degraded-text", "page", 11}, {"dark", dark, "degraded-text", "surface", 9.9},
		{"dark", dark, "degraded", "land", 3}, {"dark", dark, "down", "land", 3}, {"dark", dark, "unknown", "land", 3}, {"dark", dark, "up", "land", 3},
		{"dark", dark, "down", "page", 6.78}, {"dark", dark, "down", "surface", 6.1},
		{"dark", dark, "unknown", "page", 7.13}, {"dark", dark, "unknown", "surface", 6.42},
		{"dark", dark, "no-coverage", "page", 15.1}, {"dark", dark, "no-coverage", "surface", 13.5},
		{"dark", dark, "muted", "land", 4.5}, {"dark", dark, "down", "down-pale", 3}, {"dark", dark, "up", "up-pale", 3},
	} {
		fg, ok1 := c.colors[c.fg]
		bg, ok2 := c.colors[c.bg]
		if !ok1 || !ok2 {
			t.Errorf("%s has no %s or no %s", c.theme, c.fg, c.bg)
			continue
		}
		if got := contrast(fg, bg); got < c.least {
			t.Errorf("%s: %s on %s has a contrast of %.2f, below %.2f", c.theme, c.fg, c.bg, got, c.least)
		}
	}
}

// Machado, Oliveira and Fernandes (2009), severity 1, in linear RGB.
var (
	protanopia   = [3][3]float64{{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}
	deuteranopia = [3][3]float64{{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}
	normalSight  = [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}
)

// lab is CIELAB under D65 of a colour as a viewer sees it.
func lab(c [3]float64, viewer [3][3]float64) [3]float64 {
	l := linear(c)
	var seen [3]float64
	for i := range 3 {
		for j := range 3 {
			seen[i] += viewer[i][j] * l[j]
		}
		seen[i] = min(max(seen[i], 0), 1)
	}
	f := func(t float64) float64 {
		if t > 216.0/24389 {
			return math.Cbrt(t)
		}
		return (24389.0/27*t + 16) / 116
	}
	x := f((0.4124564*seen[0] + 0.3575761*seen[1] + 0.1804375*seen[2]) / 0.95047)
	y := f(0.2126729*seen[0] + 0.7151522*seen[1] + 0.0721750*seen[2])
	z := f((0.0193339*seen[0] + 0.1191920*seen[1] + 0.9503041*seen[2]) / 1.08883)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

// ciede2000 is the distance of Sharma, Wu and Dalal (2005).
func ciede2000(p, q [3]float64) float64 {
	const rad = math.Pi / 180
	c1, c2 := math.Hypot(p[1], p[2]), math.Hypot(q[1], q[2])
	c7 := math.Pow((c1+c2)/2, 7)
	g := 0.5 * (1 - math.Sqrt(c7/(c7+math.Pow(25, 7))))
	a1, a2 := (1+g)*p[1], (1+g)*q[1]
	c1, c2 = math.Hypot(a1, p[2]), math.Hypot(a2, q[2])
	hue := func(a, b float64) float64 {
		if a == 0 && b == 0 {
			return 0
		}
		h := math.Atan2(b, a) / rad
		if h < 0 {
			h += 360
		}
		return h
	}
	h1, h2 := hue(a1, p[2]), hue(a2, q[2])
	dl, dc, dh := q[0]-p[0], c2-c1, h2-h1
	sum := h1 + h2
	switch {
	case c1*c2 == 0:
		dh = 0
	case math.Abs(h1-h2) > 180 && h2 <= h1:
		dh += 360
	case math.Abs(h1-h2) > 180:
		dh -= 360
	}
	mean := sum / 2
	switch {
	case c1*c2 == 0:
		mean = sum
	case math.Abs(h1-h2) > 180 && sum < 360:
		mean += 180
	case math.Abs(h1-h2) > 180:
		mean -= 180
	}
	dH := 2 * math.Sqrt(c1*c2) * math.Sin(dh/2*rad)
	l, c := (p[0]+q[0])/2, (c1+c2)/2
	t := 1 - 0.17*math.Cos((mean-30)*rad) + 0.24*math.Cos(2*mean*rad) + 0.32*math.Cos((3*mean+6)*rad) - 0.20*math.Cos((4*mean-63)*rad)
	sl := 1 + 0.015*(l-50)*(l-50)/math.Sqrt(20+(l-50)*(l-50))
	sc, sh := 1+0.045*c, 1+0.015*c*t
	c7 = math.Pow(c, 7)
	rt := -2 * math.Sqrt(c7/(c7+math.Pow(25, 7))) * math.Sin(60*rad*math.Exp(-math.Pow((mean-275)/25, 2)))
	return math.Sqrt(math.Pow(dl/sl, 2) + math.Pow(dc/sc, 2) + math.Pow(dH/sh, 2) + rt*(dc/sc)*(dH/sh))
}

// The first pairs of the paper's own table.
func TestCIEDE2000(t *testing.T) {
	for _, c := range []struct {
		p, q [3]float64
		want float64
	}{
		{[3]float64{50, 2.6772, -79.7751}, [3]float64{50, 0, -82.7485}, 2.0425},
		{[3]float64{50, -1.3802, -84.2814}, [3]float64{50, 0, -82.7485}, 1.0000},
		{[3]float64{50, 2.49, -0.001}, [3]float64{50, -2.49, 0.0011}, 7.2195},
		{[3]float64{50, 2.5, 0}, [3]float64{73, 25, -18}, 27.1492},
		{[3]float64{2.0776, 0.0795, -1.135}, [3]float64{0.9033, -0.0636, -0.5514}, 0.9082},
	} {
		if got := ciede2000(c.p, c.q); math.Abs(got-c.want) > 0.0001 {
			t.Errorf("distance of %v and %v is %.4f, want %.4f", c.p, c.q, got, c.want)
		}
	}
}

// No pair of states comes nearer than when the palette was chosen, for anyone.
func TestStatesCanBeToldApart(t *testing.T) {
	light, dark := parsePalettes(t)
	viewers := []struct {
		name   string
		matrix [3][3]float64
	}{{"normal sight", normalSight}, {"protanopia", protanopia}, {"deuteranopia", deuteranopia}}
	least := map[string][3]float64{"light": {16.8, 14.8, 16.6}, "dark": {17.1, 16.1, 15.7}}
	states := []string{"up", "degraded", "down", "unknown", "no-coverage"}
	for theme, colors := range map[string]palette{"light": light, "dark": dark} {
		for v, viewer := range viewers {
			nearest, pair := math.Inf(1), ""
			for i, a := range states {
				for _, b := range states[:i] {
					if d := ciede2000(lab(colors[a], viewer.matrix), lab(colors[b], viewer.matrix)); d < nearest {
						nearest, pair = d, fmt.Sprintf("%s and %s", a, b)
					}
				}
			}
			t.Logf("%s, %s: %.2f between %s", theme, viewer.name, nearest, pair)
			if nearest < least[theme][v]-0.05 {
				t.Errorf("%s, %s: %s are %.2f apart, below %.1f", theme, viewer.name, pair, nearest, least[theme][v])
			}
		}
	}
}

// No rule paints with a colour that has no name, so that the tests above speak
// of all.
func TestEveryColourIsNamed(t *testing.T) {
	css := string(styleSheet)
	for _, m := range regexp.MustCompile(`var\(--([a-z-]+)\)`).FindAllStringSubmatch(css, -1) {
		if m[1] != "state" && m[1] != "state-text" && !strings.Contains(css, "--"+m[1]+": #") {
			t.Errorf("--%s is used and not defined", m[1])
		}
	}
	rules := css[strings.Index(css, "/* Ground */"):]
	if m := regexp.MustCompile(`#[0-9A-Fa-f]{3,8}\b|rgba?\(|hsla?\(`).FindString(rules); m != "" {
		t.Errorf("a rule has the colour %s of its own", m)
	}
}
