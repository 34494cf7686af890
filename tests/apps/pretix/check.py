"""Uses pretix as its staff do: logs in, and looks at orders, one order, a customer and the shop. Prints one line, or fails with
what was not as it should be. TARGET_URL, CHECK_EMAIL and CHECK_PASSWORD say where and as whom.
"""
import http.cookiejar
import os
import re
import sys
import urllib.parse
import urllib.request

TARGET = os.environ["TARGET_URL"]
browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))


def page(path, form=None):
    data = urllib.parse.urlencode(form).encode() if form else None
    with browser.open(urllib.request.Request(TARGET + path, data), timeout=60) as answer:
        return answer.read().decode(), urllib.parse.urlparse(answer.url).path


def must(what, found):
    if not found:
        sys.exit(f"{TARGET}: {what}")
    return found


text, _ = page("/control/login")
token = must("the login page has no form", re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', text))
who = {"email": os.environ["CHECK_EMAIL"], "password": os.environ["CHECK_PASSWORD"], "csrfmiddlewaretoken": token.group(1)}
_, path = page("/control/login?next=/control/", who)
must(f"login leads to {path}", path == "/control/")
orders, _ = page("/control/event/conf/winter/orders/")
codes = sorted(set(re.findall(r"/control/event/conf/winter/orders/([A-Z0-9]{5})/", orders)))
must("no order is listed", len(codes) > 10)
text, _ = page(f"/control/event/conf/winter/orders/{codes[0]}/")
must("an order has no address", "@" in text)
customers, _ = page("/control/organizer/conf/customers")
one = must("no customer is listed", re.search(r"/control/organizer/conf/customer/([A-Z0-9]+)/", customers))
page(one.group(0))
shop, _ = page("/conf/winter/")
must("the shop sells no ticket", "Ticket" in shop)
print(f"{len(codes)} orders listed; an order, a customer and the shop are served")
