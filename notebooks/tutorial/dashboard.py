"""Dask's dashboard where the reader can reach it: a link that works from their browser, and panes beside the notebook.

The dashboard listens on loopback of the machine that runs the notebook. A browser on that machine opens it there; any
other goes through the Jupyter server (jupyter-server-proxy), over the one address that it has of it anyway.
"""

import html
import json
import os
import ssl
import string
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from tutorial.device import GPU, scheduler_address

import dask
from IPython.display import display
from jupyter_core.paths import jupyter_runtime_dir

DEFAULT = "{scheme}://{host}:{port}/status"  # Dask's own template of the link
# Seen where JupyterLab lets a page call its commands, as `make lab` has it. Panes that are open follow the cluster by
# themselves; the button opens them.
PANES = string.Template("""
<button hidden>Show it beside the notebook</button>
<script>
(() => {
  const button = document.currentScript.previousElementSibling;
  const commands = window.jupyterapp && window.jupyterapp.commands;
  if (!commands || !commands.hasCommand("dask:populate-dashboard-url")) return;
  const attach = () => commands.execute("dask:populate-dashboard-url", {url: $url});
  button.hidden = false;
  button.onclick = async () => {
    await attach();
    for (let tries = 0; tries < 50 && !commands.isEnabled("dask:launch-layout"); tries++)
      await new Promise(done => setTimeout(done, 100));
    await commands.execute("dask:launch-layout");
    $more
  };
  attach();
})();
</script>""")
# the panes of jupyterlab-nvdashboard
GPU_PANES = """
    for (const [id, title] of [["gpu-memory-widget", "GPU Memory"], ["gpu-utilization-widget", "GPU Utilization"]])
      await commands.execute("gpu-dashboard-widget:open", {id, title});"""


class _Shown:
    """The link as text, and as HTML a link to click and a button for the panes."""

    def __init__(self, link):
        self.link = link

    def __repr__(self):
        return f"Dashboard: {self.link}"

    def _repr_html_(self):
        link = html.escape(self.link)
        panes = PANES.substitute(url=json.dumps(self.link), more=GPU_PANES if GPU else "")
        return f'Dashboard: <a href="{link}" target="_blank">{link}</a>{panes}'


def show_dashboard(client):
    """Show the link to the dashboard of a client's cluster, as one to click, and the button that opens its panes."""
    link = urlsplit(client.dashboard_link)
    far = scheduler_address() and link.hostname not in (
        "127.0.0.1",
        "localhost",
    )  # Jupyter proxies to its own machine
    if dask.config.get("distributed.dashboard.link") == DEFAULT and not far:
        base = proxying_server(link.port)
        if base:
            dask.config.set({"distributed.dashboard.link": base + "proxy/{port}/status"})
    display(_Shown(client.dashboard_link))


def proxying_server(port):
    """Return the base URL, "/" say, of the Jupyter server of this kernel if it passes requests on to `port`, or None.

    None too where no Jupyter server has started this kernel, or none that this user may read the address of.
    """
    path = os.path.join(jupyter_runtime_dir(), f"jpserver-{os.environ.get('JPY_PARENT_PID')}.json")
    try:
        with open(path, encoding="utf-8") as file:
            server = json.load(file)
    except (OSError, ValueError):
        return None
    request = urllib.request.Request(
        f"{server['url']}proxy/{port}/individual-plots.json",
        headers={"Authorization": f"token {server.get('token', '')}"},
    )
    # the server is on this machine: no proxy of the user's lies between, and its certificate names another host
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
    )
    try:
        opener.open(request, timeout=5).close()
    except urllib.error.HTTPError as error:
        if error.code == 404:  # it has no jupyter-server-proxy
            return None
    except OSError:
        return None
    return server["base_url"]
