// Shows what the broker pushes, and opens the page on a click.
addEventListener('push', event => {
  let told = {};
  try { told = event.data.json(); } catch { /* a push without data still has to show something */ }
  event.waitUntil(registration.showNotification(told.title || 'ac7', {body: told.body || '', tag: told.tag, icon: '/web/icon.svg', data: {id: told.objectiveId}}));
});
addEventListener('notificationclick', event => {
  event.notification.close();
  const {id} = event.notification.data || {};
  event.waitUntil(clients.openWindow(id ? `/#/objective/${encodeURIComponent(id)}` : '/'));
});
