"""Fills a fresh pretix with a shop in which people are everywhere that pretix keeps them: columns, cached copies, JSON, JSON in
text, logs, sessions. Each such value is a canary, unlike any other; the word that all of them have in common is read from
standard input, and told to nobody. Prints how many there are.
"""
import datetime
import json
import sys

import django

django.setup()

from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils.timezone import now
from django_scopes import scopes_disabled

from pretix.base.models import (
    CachedFile, CartPosition, Checkin, CheckinList, Customer, Device, Event, GiftCard, Invoice, InvoiceAddress,
    InvoiceLine, Item, LogEntry, Order, OrderFee, OrderPayment, OrderPosition, OrderRefund, Organizer, Question,
    QuestionAnswer, Quota, RevokedTicketSecret, Team, TeamInvite, User, Voucher, WaitingListEntry,
)
from pretix.base.models.customers import AttendeeProfile
from pretix.base.models.devices import generate_api_token
from pretix.base.models.orders import CancellationRequest, PrintLog

ORDERS = 150
WORD = sys.stdin.readline().strip()
count = 0


def canary():
    global count
    count += 1
    return f"{WORD}{count:06}"


def email():
    return f"{canary()}@{WORD}.example"


def phone():
    # Digits that begin with the word's own.
    global count
    count += 1
    return f"+34{300_000_000 + int(WORD[-7:], 16)}{count % 10_000:04}"


def name():
    return {"_scheme": "given_family", "given_name": canary(), "family_name": canary()}


def address():
    return {"company": canary(), "street": f"{canary()} 7\n{canary()}", "zipcode": canary(), "city": canary(), "country": "ES", "state": ""}


def shop():
    organizer = Organizer.objects.create(name="Conferences", slug="conf")
    organizer.settings.customer_accounts = True
    organizer.settings.contact_mail = email()
    organizer.settings.mail_from = email()
    event = Event.objects.create(
        organizer=organizer, name="Winter Conference", slug="winter", currency="EUR", date_from=now() + datetime.timedelta(days=90),
        live=True, plugins="pretix.plugins.banktransfer,pretix.plugins.checkinlists",
    )
    event.settings.contact_mail = email()
    event.settings.invoice_address_from = f"{canary()}\n{canary()}"
    event.settings.smtp_password = canary()
    admin = User.objects.get(email="admin@localhost")
    team = Team.objects.create(organizer=organizer, name="Staff", all_events=True, can_view_orders=True, can_manage_customers=True)
    team.members.add(admin)
    for _ in range(20):
        team.members.add(User.objects.create_user(email(), canary(), fullname=f"{canary()} {canary()}"))
    for _ in range(5):
        TeamInvite.objects.create(team=team, email=email())
    return organizer, event, admin


def people(organizer):
    customers = []
    for _ in range(40):
        customer = Customer(
            organizer=organizer, email=email(), phone=phone(), name_parts=name(), external_identifier=canary(), notes=canary(),
            is_active=True, is_verified=True,
        )
        customer.set_unusable_password()
        customer.save()
        customers.append(customer)
        AttendeeProfile.objects.create(
            customer=customer, attendee_name_parts=name(), attendee_email=email(), **address(),
            answers=[{"question_type": "S", "question_label": "Diet", "question_identifier": "DIET", "value": canary()}],
        )
        InvoiceAddress.objects.create(customer=customer, name_parts=name(), vat_id=canary(), **address())
    return customers


def order(event, customers, ticket, question, number):
    customer = customers[number % len(customers)]
    made = Order.objects.create(
        event=event, organizer=event.organizer, status=Order.STATUS_PAID, datetime=now(), expires=now() + datetime.timedelta(days=10), total=23,
        email=email(), phone=phone(), locale="en", customer=customer, comment=canary(), checkin_text=canary(),
        sales_channel=event.organizer.sales_channels.get(identifier="web"),
        meta_info=json.dumps({"contact_form_data": {"email": email(), "phone": phone()}}), api_meta={"crm": canary()},
    )
    position = OrderPosition.objects.create(
        order=made, organizer=event.organizer, item=ticket, price=23, positionid=1, attendee_name_parts=name(), attendee_email=email(),
        meta_info=json.dumps({"question_form_data": {"attendee_name_parts": name(), "diet": canary()}}), **address(),
    )
    QuestionAnswer.objects.create(orderposition=position, question=question, answer=canary())
    billed = InvoiceAddress.objects.create(
        order=made, is_business=True, name_parts=name(), vat_id=canary(), custom_field=canary(), internal_reference=canary(),
        beneficiary=canary(), transmission_info={"transmission_email_address": email()}, **address(),
    )
    payment = OrderPayment.objects.create(
        order=made, local_id=1, state="confirmed", amount=23, provider="banktransfer", payment_date=now(),
        info=json.dumps({"payer": f"{canary()} {canary()}", "iban": canary(), "reference": canary()}),
    )
    if number % 5 == 0:
        OrderRefund.objects.create(
            order=made, payment=payment, local_id=1, state="done", source="admin", amount=1, provider="banktransfer", comment=canary(),
            info=json.dumps({"account_holder": canary(), "iban": canary()}),
        )
        OrderFee.objects.create(order=made, fee_type="other", value=0, description=canary())
        CancellationRequest.objects.create(order=made, cancellation_fee=0)
        RevokedTicketSecret.objects.create(event=event, position=position, secret=canary())
    invoice = Invoice.objects.create(
        order=made, event=event, organizer=event.organizer, prefix="WINTER-", invoice_no=f"{number:05}", invoice_from=canary(), invoice_from_name=canary(),
        invoice_to=f"{billed.name_cached}\n{billed.street}\n{canary()}", invoice_to_company=billed.company,
        invoice_to_name=billed.name_cached, invoice_to_street=billed.street, invoice_to_zipcode=billed.zipcode, invoice_to_city=billed.city,
        invoice_to_country="ES", invoice_to_vat_id=billed.vat_id, invoice_to_beneficiary=billed.beneficiary,
        invoice_to_transmission_info=billed.transmission_info, internal_reference=billed.internal_reference,
        custom_field=billed.custom_field, introductory_text=canary(), transmission_info={"sent_to": email()},
    )
    InvoiceLine.objects.create(
        invoice=invoice, position=0, description=f"Ticket\n{canary()}", gross_value=23, tax_value=0, tax_rate=0, tax_name="",
        attendee_name=position.attendee_name_cached, item=ticket,
    )
    for action, data in (
        ("pretix.event.order.contact.changed", {"old_email": email(), "new_email": made.email}),
        ("pretix.event.order.modified", {"invoice_data": {"name_parts": name(), "street": canary()}, "data": [{"attendee_email": email()}]}),
        ("pretix.event.order.email.sent", {"subject": canary(), "message": f"Hello {canary()}", "recipient": made.email}),
    ):
        LogEntry.objects.create(content_object=made, event=event, organizer=event.organizer, action_type=action, data=json.dumps(data))
    made.create_transactions()
    return position


@transaction.atomic
def plant():
    organizer, event, admin = shop()
    customers = people(organizer)
    ticket = Item.objects.create(event=event, name="Ticket", default_price=23, admission=True, personalized=True)
    quota = Quota.objects.create(event=event, name="All", size=1000)
    quota.items.add(ticket)
    question = Question.objects.create(event=event, question="Diet", type="S", identifier="DIET")
    question.items.add(ticket)
    door = CheckinList.objects.create(event=event, name="Door", all_products=True)
    device = Device.objects.create(organizer=organizer, name=canary(), initialized=now(), api_token=generate_api_token(), info={"owner": canary()})
    for number in range(ORDERS):
        position = order(event, customers, ticket, question, number)
        if number % 3 == 0:
            Checkin.objects.create(position=position, list=door, device=device, datetime=now(), raw_barcode=position.secret, error_explanation=canary())
            PrintLog.objects.create(position=position, device=device, source=canary()[:60], type="badge", info={"printer": canary()})
    for _ in range(30):
        Voucher.objects.create(event=event, code=canary().upper(), item=ticket, tag=canary(), comment=canary())
        GiftCard.objects.create(issuer=organizer, currency="EUR", customer=customers[0], secret=canary().upper(), conditions=canary())
        WaitingListEntry.objects.create(event=event, item=ticket, email=email(), phone=phone(), name_parts=name())
        CartPosition.objects.create(
            event=event, item=ticket, cart_id=f"{canary()}@api", price=23, expires=now(), attendee_name_parts=name(),
            attendee_email=email(), **address(),
        )
        Session.objects.create(session_key=canary(), session_data=canary(), expire_date=now() + datetime.timedelta(days=9))
        CachedFile.objects.create(filename=f"{canary()}.pdf", type="application/pdf", session_key=canary()[:40])
    LogEntry.objects.create(content_object=admin, user=admin, action_type="pretix.user.settings.changed", data=json.dumps({"fullname": canary()}))


with scopes_disabled():
    plant()
print(f"{count} canaries")
