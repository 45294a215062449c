#!/bin/bash
# Runs inside the container that tests/ops_systemd.rs boots, as PID 1's only guest: takes strayd.service through its life and
# writes one line a check to /report: `ok NAME`, or `not ok NAME: why`. Ends by switching the machine off.
set -u

# value KEY [UNIT]: what systemd says of it.
value() { systemctl show --property "$1" --value "${2:-strayd}"; }
# check NAME COMMAND...: notes whether the command succeeds.
check() {
    local name=$1 said
    shift
    if said=$("$@" 2>&1); then echo "ok $name" >>/report; else echo "not ok $name: ${said//$'\n'/ }" >>/report; fi
}
# is ACTUAL EXPECTED: says what differs.
is() { [[ $1 == "$2" ]] || { echo "it is '$1', not '$2'"; return 1; }; }
# until_true SECONDS COMMAND...: waits for it.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || { echo "waited in vain for: $*"; return 1; }
        sleep 0.2
    done
}
logged() { journalctl --quiet --no-pager --unit "${2:-strayd}" | grep -F -- "$1"; }
# post [TOKEN]: the status of an order that is sent with this token.
post() {
    local body='{"command": "retrain"}'
    exec 3<>/dev/tcp/127.0.0.1/"$ADMIN_PORT" || return
    printf 'POST /api/v1/commands HTTP/1.0\r\nHost: localhost\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' \
        "${1:+Authorization: Bearer $1$'\r\n'}" "${#body}" "$body" >&3
    head -n 1 <&3 | cut -d ' ' -f 2
    exec 3>&-
}

started() {
    systemctl start strayd || { journalctl --no-pager --unit strayd | tail -n 20; return 1; }
    is "$(value ActiveState)" active && strayd healthcheck --ready --config /etc/strayd/strayd.toml
}
sandboxed() {
    local status
    status=/proc/$(value MainPID)/status
    local uid caps privileges seccomp
    uid=$(awk '/^Uid:/ { print $2 }' "$status") caps=$(awk '/^CapEff:/ { print $2 }' "$status")
    privileges=$(awk '/^NoNewPrivs:/ { print $2 }' "$status") seccomp=$(awk '/^Seccomp:/ { print $2 }' "$status")
    ((uid >= 61184 && uid <= 65519)) || { echo "uid $uid is not a dynamic one"; return 1; }
    is "$caps $privileges $seccomp" "0000000000000000 1 2"
}
keeps_models() { ls /var/lib/private/strayd/models/CURRENT && is "$(stat -c %a /var/lib/private/strayd)" 700; }
reads_credential() { is "$(post) $(post token-of-the-test)" "401 202"; }
reloads() {
    printf '\n[[suppress]]\nname = "everything"\n' >>/etc/strayd/strayd.toml
    systemctl reload strayd && until_true 10 logged 'configuration reloaded' && is "$(value NRestarts)" 0 &&
        is "$(value ActiveState)" active
}
refuses_reload() {
    cp /etc/strayd/strayd.toml /tmp/right.toml
    echo 'wrong = 1' >>/etc/strayd/strayd.toml
    systemctl reload strayd && until_true 10 logged 'configuration not reloaded' &&
        until_true 10 has_status 'scoring; the last configuration was refused, the log says why' || return
    cp /tmp/right.toml /etc/strayd/strayd.toml
    systemctl reload strayd && until_true 10 has_status scoring && is "$(value NRestarts)" 0
}
watched() {
    kill -STOP "$(value MainPID)"
    until_true 60 restarted && until_true 60 is_ready && is "$(value Result)" success
    until_true 10 logged 'Watchdog timeout'
}
has_status() { [[ $(value StatusText) == "$1" ]]; }
restarted() { (($(value NRestarts) == 1)); }
is_ready() { [[ $(value ActiveState) == active ]] && has_status scoring; }
stops() {
    local before=$SECONDS
    systemctl stop strayd
    is "$(value Result) $(value ExecMainStatus) $(value ActiveState)" "success 0 inactive" || return
    ((SECONDS - before < 30)) || { echo "it took $((SECONDS - before)) s"; return 1; }
    until_true 10 logged 'drained; everything acknowledged is settled'
}
refuses_start() {
    echo 'wrong = 1' >>/etc/strayd/strayd.toml
    if systemctl start strayd; then echo "a wrong file was started with"; return 1; fi
    until_true 10 logged 'unknown field' || return
    systemctl stop strayd
    cp /tmp/right.toml /etc/strayd/strayd.toml
}
instance() {
    systemctl start strayd@second && is "$(value ActiveState strayd@second)" active &&
        ls /var/lib/private/strayd-second/models/CURRENT && systemctl stop strayd@second &&
        is "$(value Result strayd@second)" success
}

check start_waits_until_ready started
check status_line_says_scoring is "$(value StatusText)" scoring
check runs_in_its_sandbox sandboxed
check exposure_is_at_most_1.5 systemd-analyze security --no-pager --threshold=15 strayd.service
check models_are_in_the_state_directory keeps_models
check credential_is_readable reads_credential
check reload_is_taken_up reloads
check wrong_file_is_not_reloaded refuses_reload
check missed_watchdog_restarts watched
check stop_drains_in_time stops
check wrong_file_is_not_started refuses_start
check template_runs_another_detector instance
journalctl --no-pager >/journal
echo "that was all" >>/report
systemctl poweroff
