// Package defaultclient remembers the transport that http.DefaultClient had
// before speedtest-go was initialised.
//
// That package replaces it while it initialises. This one needs nothing but
// net/http, and its import path sorts before "github.com/showwin": Go (1.21 and
// later) initialises, of all packages whose imports are ready, the one whose
// path sorts first, so this one always comes before it.
package defaultclient

import "net/http"

var transport = http.DefaultClient.Transport

// Transport is what it was; nil, which stands for http.DefaultTransport, in any
// program that does not set its own.
func Transport() http.RoundTripper { return transport }
