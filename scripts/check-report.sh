#!/usr/bin/env bash
# Opens pages of runs in headless Chromium (Debian's package chromium): they load nothing, every picture and chart is there, nothing is wider
# than the window at 400 and at 1,600 pixels, in light and in dark. Playwright, which asks the browser, goes into a virtual environment of its
# own in target/. Options: RUN… are the runs of the pages [default: two that are committed], a page of each and one of all; screenshots go to
# target/report-pages.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome); then
    echo "error: no Chromium is installed: apt-get install chromium" >&2
    exit 1
fi
if [ $# = 0 ]; then
    set -- results/23_karras/quick-3-seeds results/23_karras/quick-20261126-022848
fi
source scripts/venv.sh
virtual_environment browser playwright pillow
cargo build --release -q -p elucidate-report
exec "$venv/bin/python" scripts/check_report.py "$chromium" target/release/elucidate "$@"
