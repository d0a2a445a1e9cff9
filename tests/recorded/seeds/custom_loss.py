import tensorflow as tf

# Define a custom loss function
def custom_loss(y_true, y_pred):
  squared_difference = tf.square(y_true - y_pred)
  return tf.reduce_mean(squared_difference)

# Build a simple model
model = tf.keras.models.Sequential([
    tf.keras.layers.Dense(1, input_shape=(1,))
])

# Compile the model with the custom loss
model.compile(optimizer='adam', loss=custom_loss)

# Train the model
dummy_data = np.random.rand(100,1) # Generate dummy data.
dummy_labels = np.random.rand(100,1) # Generate dummy labels.
model.fit(dummy_data, dummy_labels, epochs=2) # Train with dummy data.

# Save the model
model.save('my_model_with_custom_loss')
