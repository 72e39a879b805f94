package demo

import (
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/pantau-desa/pantau/dashboards"
)

// grafanaPatience is how long a Grafana may take to answer: a first start fills its
// database.
const grafanaPatience = 2 * time.Minute

// grafana starts the Grafana in the path, if there is one, with the dashboards and
// nothing of the machine's own settings, until ctx ends. That there is none, or
// that it does not do, ends nothing else.
func (r *run) grafana(ctx context.Context, dir, page string) {
	bin, err := grafanaInPath()
	if err != nil {
		r.say("grafana: none in the path; for one of yours: pantau dashboards export DIR --data-source %s", page)
		return
	}
	addr, err := r.runGrafana(ctx, bin, filepath.Join(dir, "grafana"), page)
	if ctx.Err() == nil {
		r.log.Warn("grafana ended", "addr", addr, "err", err)
		r.say("grafana: %s ended (%v); see %s", bin, err, filepath.Join(dir, "grafana", "log"))
	}
}

// grafanaInPath is the program itself: packages put a script of that name before
// it, which asks for their own settings.
func grafanaInPath() (string, error) {
	var err error
	for _, name := range []string{"grafana", "grafana-server"} {
		var found string
		if found, err = exec.LookPath(name); err == nil {
			return filepath.EvalSymlinks(found)
		}
	}
	return "", err
}

// grafanaHome is the folder with Grafana's own files: around its program, as in
// the archive, or where packages have it.
func grafanaHome(bin string) string {
	for _, home := range []string{filepath.Dir(filepath.Dir(bin)), filepath.Dir(bin)} {
		if _, err := os.Stat(filepath.Join(home, "conf", "defaults.ini")); err == nil {
			return home
		}
	}
	return "/usr/share/grafana"
}

// runGrafana runs one with all its files below home, says its address as soon as
// it answers, and returns when it has ended.
func (r *run) runGrafana(ctx context.Context, bin, home, page string) (addr string, err error) {
	if _, err := dashboards.Export(dashboards.Options{Dir: home, DataSource: page, Pages: page}); err != nil {
		return "", err
	}
	log, err := os.Create(filepath.Join(home, "log"))
	if err != nil {
		return "", err
	}
	defer log.Close()
	// Grafana opens its port itself: this one was free a moment ago.
	l, err := listenNear("127.0.0.1:" + grafanaPort)
	if err != nil {
		return "", err
	}
	addr = l.Addr().String()
	l.Close()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	args := []string{"server"}
	if filepath.Base(bin) == "grafana-server" {
		args = nil
	}
	c := exec.CommandContext(ctx, bin, append(args, "--homepath", grafanaHome(bin))...)
	c.Dir, c.Stdout, c.Stderr = home, log, log
	c.Env = append(os.Environ(),
		"GF_PATHS_DATA="+filepath.Join(home, "data"), "GF_PATHS_LOGS="+filepath.Join(home, "logs"),
		"GF_PATHS_PLUGINS="+filepath.Join(home, "plugins"), "GF_PATHS_PROVISIONING="+filepath.Join(home, "provisioning"),
		"GF_SERVER_HTTP_ADDR="+host, "GF_SERVER_HTTP_PORT="+port, "GF_SERVER_PROTOCOL=http",
		// On this machine alone, and without a password: anybody here may look.
		"GF_AUTH_ANONYMOUS_ENABLED=true", "GF_AUTH_ANONYMOUS_ORG_ROLE=Viewer", "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION=true",
		"GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH="+filepath.Join(home, "json", "ringkasan-kabupaten.json"),
		// It calls nobody.
		"GF_ANALYTICS_REPORTING_ENABLED=false", "GF_ANALYTICS_CHECK_FOR_UPDATES=false", "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES=false",
		"GF_PLUGINS_PREINSTALL_DISABLED=true", "GF_NEWS_NEWS_FEED_ENABLED=false", "GF_SECURITY_DISABLE_GRAVATAR=true")
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = patience
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	// The kernel kills the child when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	answered := make(chan struct{})
	defer func() { <-answered }()
	ask, cancel := context.WithTimeout(ctx, grafanaPatience)
	defer cancel()
	if err := c.Start(); err != nil {
		close(answered)
		return addr, err
	}
	go func() {
		defer close(answered)
		if answers(ask, "http://"+addr+"/api/health") {
			r.say("grafana: http://%s/", addr)
		}
	}()
	err = c.Wait()
	cancel()
	return addr, err
}

// answers asks until there is a good answer or ctx ends.
func answers(ctx context.Context, url string) bool {
	for ctx.Err() == nil {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false
		}
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return true
			}
		}
		pause(ctx, 500*time.Millisecond)
	}
	return false
}
